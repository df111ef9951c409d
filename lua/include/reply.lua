-- reply: the common head of every answer, then the script's own data.
-- Returns  status, clock, dataset, revision, epoch, state, writes, in_force, closing, reclaim_until, cap
local function reply(scope, status, ...)
  local closing = 0
  if scope.r2 > 0 then closing = 1 end
  local head = {
    status, scope.clock, scope.dataset, scope.revision, scope.epoch, scope.state, scope.writes,
    scope.in_force, closing, scope.reclaim_until, scope.cap,
  }
  for _, value in ipairs({ ... }) do head[#head + 1] = value end
  return head
end
