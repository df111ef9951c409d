-- commit: stands after all checks of a script that writes, and before its first write but for the clock: counts up the
-- caller's canary.
--- @include scope
local function commit(scope)
  if scope.owner ~= '' then
    scope.writes = redis.call('HINCRBY', derived('node', scope.owner), 'writes', 1)
  end
end
