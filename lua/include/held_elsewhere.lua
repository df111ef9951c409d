-- held_elsewhere: is the client a holder of a member other than `owner`? That member may be dead and not noticed yet.
--- @include scope
local function held_elsewhere(owner, client)
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    if member ~= owner and redis.call('SISMEMBER', derived('holders', member), client) == 1 then return true end
  end
  return false
end
