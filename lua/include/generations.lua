-- generations: takes `count` new generations and keeps the clock with them. They are above every generation of the
-- scope and not below its clock, so a client's generation never restarts, whatever became of its record.
-- Returns the one before the first: the caller counts up from there.
--- @include int
local function generations(scope, count)
  local before = math.max(tonumber(scope.generation), scope.clock - 1)
  scope.generation = before + count
  redis.call('HSET', KEYS[1], 'clock', int(scope.clock), 'raw', int(scope.raw), 'generation', int(scope.generation))
  return before
end
