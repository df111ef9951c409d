-- forget_right: a client's right is over wherever it stands: on rosters, and in the copies that moves left behind.
--- @include scope
--- @include roster_leave
local function forget_right(client)
  roster_leave(client)
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    redis.call('SREM', derived('holders', member), client)
  end
end
