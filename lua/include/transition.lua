-- transition: the next revision of the scope, with its event. The caller has changed `scope` already.
--- @include view
--- @include event
local function transition(scope, kind, ...)
  read_view(scope)
  scope.revision = scope.revision + 1
  keep_view(scope)
  event(scope, kind, ...)
end
