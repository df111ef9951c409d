-- reclaim_admit: may this client, registered here, reclaim here now?
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> members lost grace
-- ARGV[2]  client    bytes  client id
-- Returns  for BARRIER whom the period waits for
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | BARRIER | ALREADY | NOT_EXPECTED | NO_GRACE | ADMITTED
-- Retry    safe: a repeat changes nothing
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include rights
--- @include record
--- @include reclaim_refusal
--- @include waiting_for
local client = ARGV[2]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
refusal = reclaim_refusal(scope, client, rights_on_rosters(scope, { client })[client], true)
if refusal == 'BARRIER' then return reply(scope, refusal, pending(scope)) end
if refusal then return reply(scope, refusal) end

commit(scope)
keep_clock(scope)
-- From now on it may have locks here: no other node takes it before this one has closed it.
redis.call('HSET', prefix .. 'client:' .. client, ADMITTED, 1)
return reply(scope, 'ADMITTED')
