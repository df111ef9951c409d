-- next_generation: above every generation of the scope and not below its clock, so that it never restarts,
-- whatever became of the client's record.
--- @include scope
--- @include int
local function next_generation(scope)
  scope.generation = math.max(scope.generation + 1, scope.clock)
  redis.call('HSET', key.meta, 'generation', int(scope.generation))
  return scope.generation
end
