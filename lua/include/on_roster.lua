-- on_roster: may this client reclaim in the present epoch, as far as the rosters say?
--- @include scope
local function on_roster(client)
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do -- bounded by LOST_MAX of start_period
    if redis.call('SISMEMBER', derived('holders', owner), client) == 1 then return true end
  end
  return false
end
