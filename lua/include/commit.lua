-- commit: the first write of every script that writes, after all its checks: the clock and the caller's canary.
--- @include scope
--- @include int
local function commit(scope)
  redis.call('HSET', key.meta, 'clock', int(scope.clock), 'raw', int(scope.raw))
  if scope.owner ~= '' then
    scope.writes = redis.call('HINCRBY', derived('node', scope.owner), 'writes', 1)
  end
end
