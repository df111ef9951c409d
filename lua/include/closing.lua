-- closing: clients that moved away from a member, or were revoked there by another, until it says (client_drop) that
-- it has closed their entries: until then it may still confirm a lock of theirs, as `hold, check, insert, confirm` may
-- pause anywhere. So their releases wait.
-- must_close: notes a list of client, generation, client ... under a member. may_confirm: of up to 200 clients, client
-- -> a member other than the caller that has them to close.
--- @include scope
local function must_close(owner, noted)
  if #noted > 0 then redis.call('HSET', derived('closing', owner), unpack(noted)) end
end

local function may_confirm(scope, clients)
  local found = {}
  if #clients == 0 then return found end
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    if member ~= scope.owner then
      for i, generation in ipairs(redis.call('HMGET', derived('closing', member), unpack(clients))) do
        if generation then found[clients[i]] = member end
      end
    end
  end
  return found
end
