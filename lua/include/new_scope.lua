-- new_scope: a scope without data gets the view of a normal scope. Its clock begins with the machine's; the caller
-- keeps that.
--- @include view
local function new_scope(scope, dataset, revision, epoch)
  scope.clock = math.max(scope.clock, scope.raw)
  scope.dataset, scope.revision, scope.epoch, scope.active = dataset, revision, epoch, false
  scope.in_force, scope.closing, scope.reclaim_until, scope.cap = 0, false, 0, 0
  keep_view(scope)
end
