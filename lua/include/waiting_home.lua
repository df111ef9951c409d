-- waiting_home: until when (scope clock, ms) the locks of a client that was revoked must wait for its home: it may
-- still confirm one, until it says that it has closed the client (client_yield) or is a member no more. 0: not, or
-- not any more.
--- @include scope
--- @include gone_at
local function waiting_home(scope, reg)
  if not reg or reg.state ~= 'revoked' then return 0 end
  local deadline = redis.call('ZSCORE', prefix .. 'members', reg.owner)
  local gone = deadline and gone_at(reg.owner, deadline) + 1 or 0
  return gone > scope.clock and gone or 0
end
