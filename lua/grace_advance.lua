-- grace_advance: moves the period when its time has come, for a node's timer.
-- ARGV[9]  tight     int    1: the caller holds its view tightened until this very reply
-- Returns  nothing
-- Status   DATA_LOST | FENCED | LATE | ADVANCED
-- Retry    safe: a repeat changes nothing more
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
local tight = ARGV[9] == '1'

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
advance(scope, tight)
return reply(scope, 'ADVANCED')
