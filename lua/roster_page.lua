-- roster_page: a page of the clients that may still reclaim, that did, or whose right the last lift ended; may repeat,
-- never misses. Changes nothing.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> holders:<owner> lost reclaimed forfeited
-- ARGV[2]  which     str    expected, reclaimed or forfeited
-- ARGV[3]  epoch     int    the epoch meant; 0: the present one
-- ARGV[4]  roster    str    empty to begin, then what the last page answered
-- ARGV[5]  cursor    str    0 to begin, then what the last page answered
-- ARGV[6]  count     int    about so many, 1 to 200
-- Returns  epoch, next roster and next cursor (empty and 0: the end), then client ids
-- Status   DATA_LOST | FENCED | LATE | STALE_EPOCH | PAGE
-- Retry    safe
-- Durable  no
-- Cost     O(count + lost owners)
--- @include begin
--- @include now
--- @include reply
--- @include view
local which, epoch, roster, cursor, count = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
read_view(scope)
if epoch > 0 and epoch ~= scope.epoch then return reply(scope, 'STALE_EPOCH') end
if which ~= 'expected' then
  local done = which == 'reclaimed' and prefix .. 'reclaimed' or prefix .. 'forfeited'
  local page = redis.call('SSCAN', done, cursor, 'COUNT', count)
  return reply(scope, 'PAGE', scope.epoch, '', page[1], page[2])
end
-- Rosters in the order of their names, so that one page can say which comes next.
local owners = redis.call('SMEMBERS', prefix .. 'lost') -- bounded by LOST_MAX of start_later
table.sort(owners)
local next_owner = ''
if roster == '' then roster = owners[1] or '' end
for _, owner in ipairs(owners) do
  if owner > roster and next_owner == '' then next_owner = owner end
end
if roster == '' then return reply(scope, 'PAGE', scope.epoch, '', '0', {}) end
local page = redis.call('HSCAN', prefix .. 'holders:' .. roster, cursor, 'COUNT', count)
local clients = {}
for i = 1, #page[2], 2 do clients[#clients + 1] = page[2][i] end
if page[1] ~= '0' then next_owner = roster end
return reply(scope, 'PAGE', scope.epoch, next_owner, page[1], clients)
