-- grace_end: the operator ends the period; rights that were not used are forfeited.
-- ARGV[9]  epoch     int    the epoch meant; 0: whichever is active
-- ARGV[10] reason    str    for people
-- ARGV[11] tight     int    1: the caller holds its view tightened until this very reply
-- ARGV[12] request   str    random per request; the same again is a repeat
-- Returns  nothing
-- Status   DATA_LOST | FENCED | LATE | STALE_EPOCH | NOT_ACTIVE | ENDED
-- Retry    safe: a repeat answers the same
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
local epoch, reason, tight, request = tonumber(ARGV[9]), ARGV[10], ARGV[11] == '1', ARGV[12]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
if redis.call('HGET', key.grace, 'end_request') == request then return reply(scope, 'ENDED') end
if epoch > 0 and epoch ~= scope.epoch then return reply(scope, 'STALE_EPOCH') end
if scope.state ~= 'active' then return reply(scope, 'NOT_ACTIVE') end

commit(scope)
scope.forced = true
scope.reclaim_until = scope.clock
redis.call('HSET', key.grace, 'reclaim_until', int(scope.clock), 'end_request', request, 'end_reason', reason)
event(scope, 'end', 'reason', reason)
advance(scope, tight)
return reply(scope, 'ENDED')
