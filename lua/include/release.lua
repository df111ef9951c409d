-- release: the queue of what is to be freed. A name is <owner>|<generation>|<client>; its entry in `releases` is
-- "<reason> <token> <claimant>", token - while nobody works on it. `ending` counts, for each client, the releases
-- whose right to reclaim is over: such a client is no leftover for a restored roster.
--- @include scope
--- @include int
local release = {}

function release.name(owner, generation, client)
  return owner .. '|' .. generation .. '|' .. client
end

function release.parse(name)
  local first = string.find(name, '|', 1, true)
  local second = string.find(name, '|', first + 1, true)
  return string.sub(name, 1, first - 1), string.sub(name, first + 1, second - 1), string.sub(name, second + 1)
end

local function parsed(entry)
  if not entry then return nil end
  local reason, token, claimant = string.match(entry, '^(%S+) (%S+) (%S*)$')
  return { reason = reason, token = token, claimant = claimant, claimed = token ~= '-' }
end

function release.get(name)
  return parsed(redis.call('HGET', key.releases, name))
end

function release.ended(entry)
  return entry ~= nil and (entry.claimed or entry.reason ~= 'disconnect')
end

local function count_ending(client, step)
  if redis.call('HINCRBY', key.ending, client, step) <= 0 then redis.call('HDEL', key.ending, client) end
end

-- Up to 200 names, of a client each, with its time and reason. Never postpones, never takes the work from a claimant.
function release.enqueue_all(names, items)
  if #names == 0 then return end
  local old = redis.call('HMGET', key.releases, unpack(names))
  local due, entries, ending = {}, {}, {}
  for i, name in ipairs(names) do
    local entry, item = parsed(old[i]), items[i]
    if not (entry and entry.claimed) then
      if not entry or tonumber(redis.call('ZSCORE', key.due, name)) > item.at then
        due[#due + 1], due[#due + 2] = int(item.at), name
      end
      if not entry or entry.reason == 'disconnect' then
        entries[#entries + 1], entries[#entries + 2] = name, item.reason .. ' - '
        if item.reason ~= 'disconnect' then ending[#ending + 1] = item.client end
      end
    end
  end
  if #ending > 0 then
    local counts = {}
    for i, count in ipairs(redis.call('HMGET', key.ending, unpack(ending))) do
      counts[2 * i - 1], counts[2 * i] = ending[i], int(tonumber(count or 0) + 1)
    end
    redis.call('HSET', key.ending, unpack(counts))
  end
  if #due > 0 then redis.call('ZADD', key.due, unpack(due)) end
  if #entries > 0 then redis.call('HSET', key.releases, unpack(entries)) end
end

function release.enqueue(name, client, at, reason)
  release.enqueue_all({ name }, { { client = client, at = at, reason = reason } })
end

function release.remove(name, client)
  if release.ended(release.get(name)) then count_ending(client, -1) end
  redis.call('ZREM', key.due, name)
  redis.call('HDEL', key.releases, name)
end

-- A token of its own for each claim; the entry comes due again when the claim runs out.
function release.claim(scope, name, client, entry, claim_ms)
  if not release.ended(entry) then count_ending(client, 1) end
  local token = int(redis.call('HINCRBY', key.meta, 'claims', 1))
  redis.call('HSET', key.releases, name, entry.reason .. ' ' .. token .. ' ' .. scope.owner)
  redis.call('ZADD', key.due, int(scope.clock + claim_ms), name)
  return token
end
