-- roster_page: a page of the clients that may still reclaim, or of those that did; may repeat, never misses. Changes
-- nothing but the clock.
-- ARGV[9]  which     str    expected or reclaimed
-- ARGV[10] roster    str    empty to begin, then what the last page answered
-- ARGV[11] cursor    str    0 to begin, then what the last page answered
-- ARGV[12] count     int    about so many, 1 to 200
-- Returns  next roster and next cursor (empty and 0: the end), then client ids
-- Status   DATA_LOST | FENCED | LATE | PAGE
-- Retry    safe
-- Durable  no
-- Cost     O(count + lost owners)
--- @include begin
--- @include reply
local which, roster, cursor, count = ARGV[9], ARGV[10], ARGV[11], ARGV[12]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
if which == 'reclaimed' then
  local page = redis.call('SSCAN', key.reclaimed, cursor, 'COUNT', count)
  return reply(scope, 'PAGE', '', page[1], page[2])
end
-- Rosters in the order of their names, so that one page can say which comes next.
local owners = redis.call('SMEMBERS', key.lost) -- bounded by LOST_MAX of start_later
table.sort(owners)
local next_owner = ''
if roster == '' then roster = owners[1] or '' end
for _, owner in ipairs(owners) do
  if owner > roster and next_owner == '' then next_owner = owner end
end
if roster == '' then return reply(scope, 'PAGE', '', '0', {}) end
local page = redis.call('SSCAN', derived('holders', roster), cursor, 'COUNT', count)
if page[1] ~= '0' then next_owner = roster end
return reply(scope, 'PAGE', next_owner, page[1], page[2])
