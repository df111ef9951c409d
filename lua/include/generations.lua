-- generations: takes `count` new generations, and keeps the clock with them. They are above every generation of the
-- scope and not below its clock, so a client's generation never restarts, whatever became of its record.
-- Returns the one before the first: the caller counts up from there.
local function generations(scope, count)
  local before = math.max(scope.generation, scope.clock - 1)
  scope.generation = before + count
  if scope.clock == scope.stored then
    redis.call('HSET', KEYS[1], 'generation', scope.generation)
  else
    redis.call('HSET', KEYS[1], 'clock', scope.clock, 'raw', scope.raw, 'generation', scope.generation)
  end
  return before
end
