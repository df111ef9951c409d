-- grace_advance: records an ack and moves the period when its time has come; extends no lease.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> holders:<owner> members lost open grace reclaimed orphans ended events
-- ARGV[2]  ack       int    the revision to which the caller has switched its view
-- Returns  nothing
-- Status   DATA_LOST | FENCED | LATE | ADVANCED
-- Retry    safe: a repeat changes nothing more
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include reply
--- @include ack
--- @include advance
local acked = tonumber(ARGV[2])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
keep_clock(scope)
ack(scope, acked)
advance(scope)
return reply(scope, 'ADVANCED')
