-- scope_init: marks a scope without data as a new installation: its first node begins normal. For an operator.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner>
-- ARGV[2]  dataset   str    the id of the new dataset
-- ARGV[3]  schema    str    the schema the caller speaks
-- Returns  nothing
-- Status   SCHEMA | EXISTS | INITIALIZED
-- Retry    safe: before anybody has joined, a repeat changes nothing
-- Durable  no
-- Cost     O(1)
--- @include begin
--- @include now
--- @include reply
--- @include new_scope
local dataset, schema = ARGV[2], ARGV[3]

local scope = begin()
local found = redis.call('HMGET', KEYS[1], 'schema', 'incarnation')
if found[1] and found[1] ~= schema then return reply(scope, 'SCHEMA', found[1]) end
if found[2] then return reply(scope, 'EXISTS') end
if scope.view ~= '' then return reply(scope, 'INITIALIZED') end

now(scope)
redis.call('HSET', KEYS[1], 'schema', schema)
new_scope(scope, dataset, 0, 0)
keep_clock(scope)
return reply(scope, 'INITIALIZED')
