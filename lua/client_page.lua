-- client_page: a page of the clients that occupy places of an adapter; may repeat, never misses. Changes nothing.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> adapter:<name>
-- ARGV[2]  adapter   str    adapter
-- ARGV[3]  cursor    str    0 to begin, then what the last page answered
-- ARGV[4]  count     int    about so many, 1 to 200
-- Returns  next cursor (0: the end), then client ids
-- Status   DATA_LOST | FENCED | LATE | PAGE
-- Retry    safe
-- Durable  no
-- Cost     O(count)
--- @include begin
--- @include now
--- @include reply
local adapter, cursor, count = ARGV[2], ARGV[3], ARGV[4]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
local page = redis.call('SSCAN', prefix .. 'adapter:' .. adapter, cursor, 'COUNT', count)
return reply(scope, 'PAGE', page[1], page[2])
