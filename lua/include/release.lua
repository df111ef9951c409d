-- release: the queue of what is to be freed, one entry per client in `releases`: "<upto> <reason> <token> <claimant>
-- <more>": free everything of this client up to a generation, whatever the owner. token and claimant are - while nobody
-- works on it. more, "<upto>:<reason>" or -, is what came while somebody did, and is armed by the acknowledgement.
-- A disconnect waits in its registration as well: an entry of another reason may take its place here, and the
-- acknowledgement of that arms the disconnect again. Lists have up to 200 items.
--- @include scope
--- @include int
local release = {}

-- An entry each, false for a client that has none.
function release.get_all(clients)
  local entries = {}
  if #clients == 0 then return entries end
  for i, entry in ipairs(redis.call('HMGET', prefix .. 'releases', unpack(clients))) do
    if entry then
      local upto, reason, token, claimant, more = string.match(entry, '^(%d+) (%S+) (%S+) (%S+) (%S+)$')
      entry = { upto = tonumber(upto), reason = reason, token = token, claimant = claimant, more = more,
        claimed = token ~= '-' }
    end
    entries[i] = entry
  end
  return entries
end

function release.line(upto, reason, token, claimant, more)
  return int(upto) .. ' ' .. reason .. ' ' .. token .. ' ' .. claimant .. ' ' .. more
end

-- Items { client, upto, reason, at } of distinct clients. Never takes the work from a claimant.
function release.enqueue_all(items)
  local clients, due, lines = {}, {}, {}
  for i, item in ipairs(items) do clients[i] = item.client end
  for i, old in ipairs(release.get_all(clients)) do
    local item = items[i]
    local client, upto, reason, at = item.client, item.upto, item.reason, item.at
    if old and old.claimed then
      local more = tonumber(string.match(old.more, '^%d+') or 0)
      if reason ~= 'disconnect' and upto > math.max(old.upto, more) then
        lines[#lines + 1], lines[#lines + 2] = client,
          release.line(old.upto, old.reason, old.token, old.claimant, int(upto) .. ':' .. reason)
      end
    elseif not (old and reason == 'disconnect' and old.reason ~= 'disconnect') then
      if old and (old.reason == 'disconnect') == (reason == 'disconnect') then -- two of a kind: what both ask for
        if upto <= old.upto then upto, reason = old.upto, old.reason end -- it frees no more
        at = math.min(at, tonumber(redis.call('ZSCORE', prefix .. 'due', client)))
      end
      due[#due + 1], due[#due + 2] = int(at), client
      lines[#lines + 1], lines[#lines + 2] = client, release.line(upto, reason, '-', '-', '-')
    end
  end
  if #due > 0 then redis.call('ZADD', prefix .. 'due', unpack(due)) end
  if #lines > 0 then redis.call('HSET', prefix .. 'releases', unpack(lines)) end
end

function release.remove(client)
  redis.call('ZREM', prefix .. 'due', client)
  redis.call('HDEL', prefix .. 'releases', client)
end

-- Claims { client, entry, reg or nil, right or nil }: each gets a token of its own, and comes due again when the claim
-- runs out. What is not newer than it frees ends now: the right (right: under which owner), the registration.
function release.claim_all(scope, claims, claim_ms)
  if #claims == 0 then return end
  local before = redis.call('HINCRBY', KEYS[1], 'claims', #claims) - #claims
  local due, lines, under = {}, {}, {}
  for i, claim in ipairs(claims) do
    local entry = claim.entry
    claim.token = int(before + i)
    due[2 * i - 1], due[2 * i] = int(scope.clock + claim_ms), claim.client
    lines[2 * i - 1], lines[2 * i] = claim.client,
      release.line(entry.upto, entry.reason, claim.token, scope.owner, entry.more)
    if claim.right then
      under[claim.right] = under[claim.right] or {}
      table.insert(under[claim.right], claim.client)
    end
    if claim.reg and claim.reg.generation <= entry.upto and claim.reg.state ~= 'leaving' then
      redis.call('HSET', prefix .. 'client:' .. claim.client, 'state', 'leaving')
    end
  end
  for owner, clients in pairs(under) do redis.call('HDEL', prefix .. 'holders:' .. owner, unpack(clients)) end
  redis.call('ZADD', prefix .. 'due', unpack(due))
  redis.call('HSET', prefix .. 'releases', unpack(lines))
end
