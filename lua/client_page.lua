-- client_page: a page of the clients that occupy places of an adapter; may repeat, never misses. Changes nothing but
-- the clock.
-- ARGV[9]  adapter   str    adapter
-- ARGV[10] cursor    str    0 to begin, then what the last page answered
-- ARGV[11] count     int    about so many, 1 to 200
-- Returns  next cursor (0: the end), then client ids
-- Status   DATA_LOST | FENCED | LATE | PAGE
-- Retry    safe
-- Durable  no
-- Cost     O(count)
--- @include begin
--- @include reply
local adapter, cursor, count = ARGV[9], ARGV[10], ARGV[11]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local page = redis.call('SSCAN', derived('adapter', adapter), cursor, 'COUNT', count)
return reply(scope, 'PAGE', page[1], page[2])
