-- rights: where clients have their right. A client has one at the most: under a member, a lost owner or a restored
-- roster. Both answer two tables for up to 200 clients: client -> owner, client -> generation.
-- rights_under: under these owners. rights_on_rosters: of this epoch; none in a normal scope.
--- @include lost_owners
local function rights_under(clients, owners)
  local owner_of, generation_of = {}, {}
  if #clients == 0 then return owner_of, generation_of end
  for _, owner in ipairs(owners) do
    for i, generation in ipairs(redis.call('HMGET', prefix .. 'holders:' .. owner, unpack(clients))) do
      if generation then owner_of[clients[i]], generation_of[clients[i]] = owner, tonumber(generation) end
    end
  end
  return owner_of, generation_of
end

local function rights_on_rosters(scope, clients)
  if not scope.active then return {}, {} end
  return rights_under(clients, lost_owners(scope))
end
