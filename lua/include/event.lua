-- event: appends to the stream on which nodes block. An event only wakes and tightens: losing one costs a heartbeat.
-- Only `freed` is told by nothing else.
--- @include scope
--- @include view
local EVENTS_KEPT = 1000

local function event(scope, kind, ...)
  read_view(scope)
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, 'revision',
    scope.revision, 'epoch', scope.epoch, 'clock', scope.clock, 'by', scope.owner, ...)
end
