-- held_under: which of up to 200 clients are holders under one of these owners: client -> the first such owner.
--- @include scope
local function held_under(clients, owners)
  local found = {}
  if #clients == 0 then return found end
  for _, owner in ipairs(owners) do
    for i, is_holder in ipairs(redis.call('SMISMEMBER', derived('holders', owner), unpack(clients))) do
      if is_holder == 1 then found[clients[i]] = found[clients[i]] or owner end
    end
  end
  return found
end
