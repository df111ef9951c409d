-- remaining: how many rights to reclaim are left on the rosters of the lost owners.
--- @include scope
local function remaining()
  local count = 0
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do -- bounded by LOST_MAX of start_later
    count = count + redis.call('SCARD', derived('holders', owner))
  end
  return count
end
