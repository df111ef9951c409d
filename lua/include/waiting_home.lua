-- waiting_home: until when (scope clock, ms) the locks of a client that was revoked must wait for its home: it may
-- still confirm one, until it says that it has closed the client (client_yield) or is a member no more. 0: not at all.
--- @include scope
local function waiting_home(reg)
  if not reg or reg.state ~= 'revoked' then return 0 end
  local deadline = redis.call('ZSCORE', prefix .. 'members', reg.owner)
  if not deadline then return 0 end
  return tonumber(deadline) + tonumber(redis.call('HGET', prefix .. 'node:' .. reg.owner, 'margin') or 0) + 1
end
