-- roster_leave: takes up to 200 clients out of every lost owner's set. The caller runs advance at its end, which tests
-- the lift.
--- @include scope
local function roster_leave(clients)
  if #clients == 0 then return end
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do -- bounded by LOST_MAX of start_later
    redis.call('SREM', derived('holders', owner), unpack(clients))
  end
end
