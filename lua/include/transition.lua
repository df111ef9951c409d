-- transition: the next revision of the scope, with its event.
--- @include scope
--- @include event
local function transition(scope, kind, ...)
  scope.revision = redis.call('HINCRBY', key.meta, 'revision', 1)
  event(scope, kind, ...)
end
