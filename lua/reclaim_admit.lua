-- reclaim_admit: may this client, registered here, reclaim here now?
-- ARGV[9]  client    bytes  client id
-- Returns  for BARRIER whom the period waits for
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | BARRIER | ALREADY | NOT_EXPECTED | NO_GRACE | ADMITTED
-- Retry    safe: changes nothing
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include reply
--- @include reclaim_refusal
--- @include waiting_for
local client = ARGV[9]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local stands = standing(scope.owner, { client })
refusal = reclaim_refusal(scope, client, stands, true)
if refusal == 'BARRIER' then
  local barrier = scope.r1
  if scope.r2 > 0 then barrier = scope.r2 end
  local waiting = waiting_for(scope, barrier)
  if #waiting == 0 then waiting = { stands.elsewhere[client] } end
  return reply(scope, refusal, waiting)
end
return reply(scope, refusal or 'ADMITTED')
