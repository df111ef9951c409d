-- release: the queue of what is to be freed. A name is <owner>|<generation>|<client>; its entry in `releases` is
-- "<reason> <token> <claimant>", token - while nobody works on it. `ending` counts, for each client, the releases
-- whose right to reclaim is over: such a client is no leftover for a restored roster. `orphaned` ends no right: its
-- client held nothing. Lists have up to 200 items.
--- @include scope
--- @include int
local release = {}

function release.name(owner, generation, client)
  return owner .. '|' .. generation .. '|' .. client
end

function release.parse(name)
  local first = string.find(name, '|', 1, true)
  local second = string.find(name, '|', first + 1, true)
  return {
    name = name, owner = string.sub(name, 1, first - 1), generation = string.sub(name, first + 1, second - 1),
    client = string.sub(name, second + 1),
  }
end

-- An entry each, false for a name that has none.
function release.get_all(names)
  local entries = {}
  if #names == 0 then return entries end
  for i, entry in ipairs(redis.call('HMGET', key.releases, unpack(names))) do
    if entry then
      local reason, token, claimant = string.match(entry, '^(%S+) (%S+) (%S*)$')
      entry = { reason = reason, token = token, claimant = claimant, claimed = token ~= '-' }
    end
    entries[i] = entry
  end
  return entries
end

function release.get(name)
  return release.get_all({ name })[1]
end

local function right_ended(reason, claimed)
  return reason ~= 'orphaned' and (claimed or reason ~= 'disconnect')
end

-- Counts each of these clients up, as often as it stands there.
local function count_ending(clients)
  local distinct, times, counts = {}, {}, {}
  for _, client in ipairs(clients) do
    if not times[client] then distinct[#distinct + 1] = client end
    times[client] = (times[client] or 0) + 1
  end
  if #distinct == 0 then return end
  for i, count in ipairs(redis.call('HMGET', key.ending, unpack(distinct))) do
    counts[2 * i - 1], counts[2 * i] = distinct[i], int(tonumber(count or 0) + times[distinct[i]])
  end
  redis.call('HSET', key.ending, unpack(counts))
end

-- Distinct names, of a client each, with its time and reason. Never postpones, never takes the work from a claimant.
function release.enqueue_all(names, items)
  local due, entries, ending = {}, {}, {}
  for i, entry in ipairs(release.get_all(names)) do
    local name, item = names[i], items[i]
    if not (entry and entry.claimed) then
      if not entry or tonumber(redis.call('ZSCORE', key.due, name)) > item.at then
        due[#due + 1], due[#due + 2] = int(item.at), name
      end
      if not entry or entry.reason == 'disconnect' then
        entries[#entries + 1], entries[#entries + 2] = name, item.reason .. ' - '
        if right_ended(item.reason, false) then ending[#ending + 1] = item.client end
      end
    end
  end
  count_ending(ending)
  if #due > 0 then redis.call('ZADD', key.due, unpack(due)) end
  if #entries > 0 then redis.call('HSET', key.releases, unpack(entries)) end
end

function release.enqueue(name, client, at, reason)
  release.enqueue_all({ name }, { { client = client, at = at, reason = reason } })
end

function release.remove(name, client)
  local entry = release.get(name)
  if entry and right_ended(entry.reason, entry.claimed) and redis.call('HINCRBY', key.ending, client, -1) <= 0 then
    redis.call('HDEL', key.ending, client)
  end
  redis.call('ZREM', key.due, name)
  redis.call('HDEL', key.releases, name)
end

-- Distinct releases, parsed, with their entries: each gets a token of its own, and comes due again when the claim runs
-- out.
function release.claim_all(scope, claims, claim_ms)
  if #claims == 0 then return end
  local before = redis.call('HINCRBY', key.meta, 'claims', #claims) - #claims
  local due, entries, ending = {}, {}, {}
  for i, claim in ipairs(claims) do
    claim.token = int(before + i)
    due[2 * i - 1], due[2 * i] = int(scope.clock + claim_ms), claim.name
    entries[2 * i - 1], entries[2 * i] = claim.name, claim.entry.reason .. ' ' .. claim.token .. ' ' .. scope.owner
    if claim.entry.reason == 'disconnect' and not claim.entry.claimed then ending[#ending + 1] = claim.client end
  end
  count_ending(ending)
  redis.call('ZADD', key.due, unpack(due))
  redis.call('HSET', key.releases, unpack(entries))
end
