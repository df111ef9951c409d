-- release_claim: releases that are due, a token each. The right to reclaim ends with the claim.
-- ARGV[9]  limit     int    at most so many, 1 to 200
-- ARGV[10] claim     int    ms of a claim
-- ARGV[11] prefer    int    ms for which only the home node, if it is a valid member, may claim
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
--- @include claim_releases
--- @include registration
local limit, claim_ms, prefer = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local lost, valid = {}, {} -- owners: lost ones, and which of the others are valid members, looked up once
for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do lost[owner] = true end -- bounded by LOST_MAX of start_later

local function home_first(owner, at)
  if owner == scope.owner or scope.clock >= at + prefer then return false end
  if valid[owner] == nil then
    local lease = redis.call('ZSCORE', key.members, owner)
    valid[owner] = lease ~= false and tonumber(lease) > scope.clock
      and redis.call('HEXISTS', derived('node', owner), 'fenced') == 0
  end
  return valid[owner]
end

commit(scope)
local claims, put_back, next_at = {}, {}, 0
local names = redis.call('ZRANGEBYSCORE', key.due, '-inf', int(scope.clock), 'WITHSCORES', 'LIMIT', 0, limit)
local found = {}
for i = 1, #names, 2 do found[#found + 1] = names[i] end
for i, entry in ipairs(release.get_all(found)) do
  local one, at = release.parse(found[i]), tonumber(names[2 * i])
  if entry.reason == 'disconnect' and not entry.claimed and lost[one.owner] then
    -- Its client may still reclaim: back to the period's end, where the orphan's drain takes it over.
    put_back[#put_back + 1], put_back[#put_back + 2] = int(math.max(scope.cap, scope.clock + 1)), one.name
  elseif home_first(one.owner, at) then
    if next_at == 0 or at + prefer < next_at then next_at = at + prefer end
  else
    one.entry, one.at, one.reg = entry, at, registration(one.client)
    claims[#claims + 1] = one
  end
end
if #put_back > 0 then redis.call('ZADD', key.due, unpack(put_back)) end
claim_releases(scope, claims, claim_ms)
local claimed = {}
for i, one in ipairs(claims) do
  claimed[i] = { one.name, one.client, one.owner, one.generation, one.entry.reason, one.reg and one.reg.adapter or '',
    one.token, scope.clock - one.at }
end
-- The next one for this caller: one left to its home node for now, or the first that is not due yet.
local later = redis.call('ZRANGEBYSCORE', key.due, '(' .. int(scope.clock), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if later[2] and (next_at == 0 or tonumber(later[2]) < next_at) then next_at = tonumber(later[2]) end
if #found == limit and #claimed + #put_back > 0 then next_at = scope.clock end
advance(scope, false)
return reply(scope, 'CLAIMED', next_at, unpack(claimed))
