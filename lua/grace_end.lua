-- grace_end: the operator ends the period; rights that were not used are forfeited.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> holders:<owner> members lost open grace reclaimed orphans ended events
-- ARGV[2]  epoch     int    the epoch meant; 0: whichever is active
-- ARGV[3]  reason    bytes   for people
-- ARGV[4]  repeated  int    1: an earlier attempt of this very call got no answer
-- Returns  nothing
-- Status   DATA_LOST | FENCED | LATE | STALE_EPOCH | NOT_ACTIVE | ENDED
-- Retry    safe: a repeat that names the epoch is ENDED when that is over
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include event
--- @include advance
local epoch, reason, repeated = tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
read_view(scope)
if epoch > 0 and epoch ~= scope.epoch then return reply(scope, 'STALE_EPOCH') end
if not scope.active then return reply(scope, repeated and epoch > 0 and 'ENDED' or 'NOT_ACTIVE') end

commit(scope)
keep_clock(scope)
if not scope.closing then
  scope.forced, scope.reclaim_until = true, scope.clock
  keep_view(scope)
  event(scope, 'end', 'reason', reason)
  redis.call('HSET', prefix .. 'grace', 'end_reason', reason)
  advance(scope)
end
return reply(scope, 'ENDED')
