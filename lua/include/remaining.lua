-- remaining: how many rights to reclaim are left on the rosters of this epoch.
--- @include scope
local function remaining()
  local count = 0
  for _, owner in ipairs(redis.call('SMEMBERS', prefix .. 'lost')) do -- bounded by LOST_MAX of start_later
    count = count + redis.call('HLEN', prefix .. 'holders:' .. owner)
  end
  return count
end
