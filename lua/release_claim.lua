-- release_claim: releases that are due, a token each. The right to reclaim ends with the claim.
-- ARGV[7]  limit     int    at most so many, 1 to 200
-- ARGV[8]  claim     int    ms of a claim
-- ARGV[9]  prefer    int    ms for which only the home node, if it is a valid member, may claim
-- Returns  next due (scope clock, ms; 0: none), then a group per release: name, client, owner, generation, reason,
--          adapter, token, ms overdue
-- Status   DATA_LOST | FENCED | LATE | CLAIMED
-- Retry    safe: a claim whose reply was lost runs out and comes due again
-- Durable  claim
-- Cost     O(limit x (members + lost owners))
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include claim_release
--- @include registration
local limit, claim_ms, prefer = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local function home_first(owner, at)
  if owner == scope.owner or scope.clock >= at + prefer then return false end
  local lease = redis.call('ZSCORE', key.members, owner)
  return lease and tonumber(lease) > scope.clock and redis.call('HEXISTS', derived('node', owner), 'fenced') == 0
end

commit(scope)
local claimed, ended, next_at, put_back = {}, {}, 0, 0
local names = redis.call('ZRANGEBYSCORE', key.due, '-inf', int(scope.clock), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #names, 2 do
  local name, at = names[i], tonumber(names[i + 1])
  local owner, generation, client = release.parse(name)
  local entry = release.get(name)
  if entry.reason == 'disconnect' and not entry.claimed and redis.call('SISMEMBER', key.lost, owner) == 1 then
    -- Its client may still reclaim: back to the period's end, where the orphan's drain takes it over.
    redis.call('ZADD', key.due, int(math.max(scope.cap, scope.clock + 1)), name)
    put_back = put_back + 1
  elseif home_first(owner, at) then
    if next_at == 0 or at + prefer < next_at then next_at = at + prefer end
  else
    local reg = registration(client)
    local adapter = ''
    if reg then adapter = reg.adapter end
    local token = claim_release(scope, name, entry, reg, claim_ms, ended)
    claimed[#claimed + 1] = { name, client, owner, generation, entry.reason, adapter, token, scope.clock - at }
  end
end
forget_right(ended)
-- The next one for this caller: one left to its home node for now, or the first that is not due yet.
local later = redis.call('ZRANGEBYSCORE', key.due, '(' .. int(scope.clock), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if later[2] and (next_at == 0 or tonumber(later[2]) < next_at) then next_at = tonumber(later[2]) end
if #names == 2 * limit and #claimed + put_back > 0 then next_at = scope.clock end
advance(scope, false)
return reply(scope, 'CLAIMED', next_at, unpack(claimed))
