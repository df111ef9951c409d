-- commit: stands after all checks of a script whose effect must not be forgotten, and before its first other write.
-- Counts up the caller's canary, and keeps the floor below which its requests are given up.
--- @include scope
--- @include begin
local function commit(scope)
  if scope.owner == OPERATOR then return end
  scope.writes = scope.writes + 1
  if scope.floor then
    redis.call('HSET', prefix .. 'node:' .. scope.owner, 'writes', scope.writes, 'floor', scope.floor)
  else
    redis.call('HSET', prefix .. 'node:' .. scope.owner, 'writes', scope.writes)
  end
end
