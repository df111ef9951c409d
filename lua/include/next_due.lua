-- next_due: when the next release may be claimed (scope clock, ms), 0 when there is none.
--- @include scope
local function next_due()
  local first = redis.call('ZRANGE', prefix .. 'due', 0, 0, 'WITHSCORES')
  return tonumber(first[2] or 0)
end
