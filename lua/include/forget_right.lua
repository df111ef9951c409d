-- forget_right: the rights of up to 200 clients are over wherever they stand: on rosters, and in the copies that moves
-- left behind.
--- @include scope
--- @include roster_leave
local function forget_right(clients)
  if #clients == 0 then return end
  roster_leave(clients)
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    redis.call('SREM', derived('holders', member), unpack(clients))
  end
end
