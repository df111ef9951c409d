-- lapse: a member's lease is over now, so that it may be evicted at once; when it was last renewed is kept for evict.
--- @include scope
local function lapse(scope, owner)
  local node = prefix .. 'node:' .. owner
  local figures = redis.call('HMGET', node, 'lease', 'margin')
  local renewed = tonumber(redis.call('ZSCORE', prefix .. 'members', owner)) - tonumber(figures[1])
  redis.call('HSETNX', node, 'renewed', renewed)
  redis.call('ZADD', prefix .. 'members', scope.clock - tonumber(figures[2]) - 1, owner)
end
