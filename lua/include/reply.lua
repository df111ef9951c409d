-- reply: the common head of every answer, then the script's own data.
-- Returns  status, view, scope clock (0: not looked at), canary
local function reply(scope, status, ...)
  return { status, scope.view, scope.clock, scope.writes, ... }
end
