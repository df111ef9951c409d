-- next_generation: above every generation of the scope and not below its clock, so that it never restarts,
-- whatever became of the client's record. A script that took some ends with keep_generations.
--- @include scope
--- @include int
local function next_generation(scope)
  scope.generation = math.max(scope.generation + 1, scope.clock)
  return scope.generation
end

local function keep_generations(scope)
  redis.call('HSET', key.meta, 'generation', int(scope.generation))
end
