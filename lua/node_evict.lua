-- node_evict: a member whose lease lapsed more than its margin ago becomes a lost owner or an orphan.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> clients:<owner> holders:<owner> wanted:<owner> members lost open grace reclaimed forfeited
--          orphans ended events
-- ARGV[2]  victim    str    the owner to evict
-- Returns  the victim; for LATER the ms after which to ask again
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | ALIVE | LATER | EVICTED
-- Retry    safe: the repeat is UNKNOWN, it is no member any more
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include advance
--- @include lose_owner
--- @include gone_at
local victim = ARGV[2]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
local deadline = redis.call('ZSCORE', prefix .. 'members', victim)
if not deadline then return reply(scope, 'UNKNOWN', victim) end
if scope.clock <= gone_at(victim, deadline) then return reply(scope, 'ALIVE', victim) end
local node = redis.call('HMGET', prefix .. 'node:' .. victim, 'lease', 'renewed')
local later = lose_later(scope, victim)
if later > 0 then return reply(scope, 'LATER', later) end

commit(scope)
keep_clock(scope)
lose_owner(scope, victim, 'evicted', 'node lost')
local renewed = tonumber(node[2] or tonumber(deadline) - tonumber(node[1] or 0))
event(scope, 'evicted', 'owner', victim, 'silent', scope.clock - renewed) -- ms since its last renewal
advance(scope)
return reply(scope, 'EVICTED', victim)
