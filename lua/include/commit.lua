-- commit: stands after all checks of a script whose effect must not be forgotten, and before its first other write.
-- Counts up the caller's canary.
--- @include scope
--- @include begin
local function commit(scope)
  if scope.owner == OPERATOR then return end
  scope.writes = scope.writes + 1
  redis.call('HSET', prefix .. 'node:' .. scope.owner, 'writes', scope.writes)
end
