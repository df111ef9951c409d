-- held_elsewhere: a member other than `owner` that the client is a holder of, or nil; perhaps dead and not noticed.
--- @include scope
local function held_elsewhere(owner, client)
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    if member ~= owner and redis.call('SISMEMBER', derived('holders', member), client) == 1 then return member end
  end
  return nil
end
