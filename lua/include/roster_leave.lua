-- roster_leave: takes a client out of every lost owner's set. The caller runs advance at its end, which tests the lift.
--- @include scope
local function roster_leave(client)
  local left = 0
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do -- bounded by LOST_MAX of start_period
    left = left + redis.call('SREM', derived('holders', owner), client)
  end
  return left > 0
end
