-- claim_all: claims releases, { client, entry, reg or nil, right or nil } each: each gets a token of its own, and comes
-- due again when the claim runs out. What is not newer than what it frees ends now: the right (right: under which
-- owner), the registration.
--- @include release
--- @include record
local function claim_all(scope, claims, claim_ms)
  if #claims == 0 then return end
  local before = redis.call('HINCRBY', KEYS[1], 'claims', #claims) - #claims
  local due, lines, under = {}, {}, {}
  for i, claim in ipairs(claims) do
    local entry = claim.entry
    claim.token = int(before + i)
    due[2 * i - 1], due[2 * i] = scope.clock + claim_ms, claim.client
    lines[2 * i - 1], lines[2 * i] = claim.client,
      release_line(entry.upto, entry.reason, claim.token, scope.owner, entry.more)
    if claim.right then
      under[claim.right] = under[claim.right] or {}
      table.insert(under[claim.right], claim.client)
    end
    if claim.reg and claim.reg.generation <= entry.upto and claim.reg.state ~= 'leaving' then
      redis.call('HSET', prefix .. 'client:' .. claim.client, STATE, 'leaving')
    end
  end
  for owner, clients in pairs(under) do redis.call('HDEL', prefix .. 'holders:' .. owner, unpack(clients)) end
  redis.call('ZADD', prefix .. 'due', unpack(due))
  redis.call('HSET', prefix .. 'releases', unpack(lines))
end
