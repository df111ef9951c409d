-- forget_right: the rights of up to 200 clients are over wherever they stand: on rosters, and in the copies that moves
-- left behind.
--- @include scope
local function forget_right(clients)
  if #clients == 0 then return end
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do -- bounded by LOST_MAX of start_period
    redis.call('SREM', derived('holders', owner), unpack(clients))
  end
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    redis.call('SREM', derived('holders', member), unpack(clients))
  end
end
