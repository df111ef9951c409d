-- reclaim_complete: the clients have all their locks back, here: their rights move from the rosters to this owner, up
-- to their present generations. Valid until the lift; needs no admission.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> members lost open grace reclaimed orphans ended events
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  rights that remain on the rosters, then a status per client; last, for BARRIER, whom the period waits for
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | BARRIER | ALREADY | NOT_EXPECTED | NO_GRACE | COMPLETED | OK
-- Retry    safe: the repeat is ALREADY, which is a success, after the lift too
-- Durable  no
-- Cost     O(clients x lost owners + members)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include rights
--- @include reclaim_refusal
--- @include remaining
--- @include advance
local FIRST = 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)

local clients, statuses, complete, held, waits = { unpack(ARGV, FIRST) }, {}, {}, {}, false
local roster_of = rights_on_rosters(scope, clients)
local leaving = {} -- roster -> its clients that complete
for i, client in ipairs(clients) do
  local roster = roster_of[client]
  local status, generation = reclaim_refusal(scope, client, roster, false)
  if not status then
    leaving[roster] = leaving[roster] or {}
    table.insert(leaving[roster], client)
    complete[#complete + 1] = client
    held[#held + 1], held[#held + 2] = client, generation
    status = 'COMPLETED'
  end
  waits = waits or status == 'BARRIER'
  statuses[i] = status
end
for roster, those in pairs(leaving) do redis.call('HDEL', prefix .. 'holders:' .. roster, unpack(those)) end
if #complete > 0 then
  keep_clock(scope)
  redis.call('SADD', prefix .. 'reclaimed', unpack(complete))
  redis.call('HSET', prefix .. 'holders:' .. scope.owner, unpack(held))
  advance(scope)
end
local waiting = {}
if waits then
  --- @include waiting_for
  waiting = pending(scope)
end
statuses[#statuses + 1] = waiting
return reply(scope, 'OK', scope.active and remaining(scope) or 0, unpack(statuses))
