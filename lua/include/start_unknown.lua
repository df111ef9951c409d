-- start_unknown: a period after data were lost. Nobody knows who held what, so `unknown` rules out an early exit; and
-- who has not noticed yet, or is unknown to the data, may grant until its validity ends: nothing is in force before.
-- `loss` tells a node that remembers an earlier clock that its data's loss is known.
--- @include scope
--- @include start_period
local function start_unknown(scope, length, lease, margin, reason)
  start_period(scope, '', length, 2 * lease + margin, reason)
  scope.earliest = scope.clock + lease + margin
  redis.call('HSET', prefix .. 'grace', 'earliest', scope.earliest)
  redis.call('SADD', prefix .. 'open', 'unknown')
  redis.call('HSET', KEYS[1], 'loss', scope.clock)
end
