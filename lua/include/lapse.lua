-- lapse: a member's lease is over now, so that it may be evicted at once; when it was last renewed is kept for evict.
--- @include scope
--- @include int
local function lapse(scope, owner, margin)
  local node = derived('node', owner)
  local renewed = tonumber(redis.call('ZSCORE', key.members, owner)) - tonumber(redis.call('HGET', node, 'lease') or 0)
  redis.call('HSETNX', node, 'renewed', int(renewed))
  redis.call('ZADD', key.members, int(scope.clock - margin - 1), owner)
end
