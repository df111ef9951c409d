-- view: what every reply tells of the scope, one string: dataset, revision, epoch, state (normal or active), in force
-- since (scope clock, ms; 0: not), closing (0 or 1), reclaim until, cap. The same string means: nothing has changed.
-- read_view parses it into `scope`, once; keep_view writes it after a change.
--- @include int
local function read_view(scope)
  if scope.revision then return end
  local dataset, revision, epoch, _, in_force, closing, reclaim_until, cap =
    string.match(scope.view, '^(%S+) (%d+) (%d+) (%a+) (%d+) (%d) (%d+) (%d+)$')
  scope.dataset, scope.revision, scope.epoch = dataset, tonumber(revision), tonumber(epoch)
  scope.in_force, scope.closing = tonumber(in_force), closing == '1'
  scope.reclaim_until, scope.cap = tonumber(reclaim_until), tonumber(cap)
end

local function keep_view(scope)
  scope.view = table.concat({ scope.dataset, int(scope.revision), int(scope.epoch),
    scope.active and 'active' or 'normal', int(scope.in_force), scope.closing and '1' or '0',
    int(scope.reclaim_until), int(scope.cap) }, ' ')
  redis.call('HSET', KEYS[1], 'view', scope.view)
end
