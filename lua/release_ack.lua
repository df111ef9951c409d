-- release_ack: the callbacks have freed everything. A registration that ended with it goes, and its place is free.
-- What came meanwhile is armed: what is in `more`, and the disconnect of a newer registration.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> clients:<owner> adapter:<name> members due releases ended events
-- ARGV[2]  adapters  str    all adapters, joined by spaces: a client without a record gives back whatever place it has
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 releases)
-- ARGV[..] token     str    token of the claim
-- Returns  next due (scope clock, ms; 0: none), then a status per release
-- Status   DATA_LOST | FENCED | LATE | STALE_TOKEN | ACKED | OK
-- Retry    safe: a release that is gone was acknowledged
-- Durable  no
-- Cost     O(releases); of a client whose record is another O(members + adapters)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include registration
--- @include release
--- @include enqueue
--- @include unqueue
--- @include waiting_home
--- @include note_ended
--- @include next_due
--- @include event
local adapters = ARGV[2]
local FIRST, GROUP = 3, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)
keep_clock(scope)

local freed, ended = {}, {}

local function acknowledge(client, entry)
  local reg = registration(client)
  if reg and reg.generation <= entry.upto then
    redis.call('DEL', prefix .. 'client:' .. client)
    redis.call('SREM', prefix .. 'clients:' .. reg.owner, client)
    redis.call('SREM', prefix .. 'adapter:' .. reg.adapter, client)
  else -- a record that expired may have left these behind
    for _, owner in ipairs(redis.call('ZRANGE', prefix .. 'members', 0, -1)) do
      if not reg or reg.owner ~= owner then redis.call('SREM', prefix .. 'clients:' .. owner, client) end
    end
    for adapter in string.gmatch(adapters, '%S+') do
      if not reg or reg.adapter ~= adapter then redis.call('SREM', prefix .. 'adapter:' .. adapter, client) end
    end
  end
  local upto, reason = string.match(entry.more, '^(%d+):(%S+)$')
  if upto then
    enqueue({ { client = client, upto = tonumber(upto), reason = reason,
      at = math.max(scope.clock, waiting_home(scope, reg)) } })
  elseif reg and reg.generation > entry.upto and (reg.state == 'deferred' or reg.state == 'leaving') then
    enqueue({ { client = client, upto = reg.generation, reason = 'disconnect',
      at = math.max(scope.clock, reg.due) } })
  end
  freed[#freed + 1], freed[#freed + 2], freed[#freed + 3], freed[#freed + 4] =
    'client', client, 'upto', entry.upto
end

local clients, statuses = {}, {}
for i = FIRST, #ARGV, GROUP do clients[#clients + 1] = ARGV[i] end
local entries = releases_of(clients)
for i, entry in ipairs(entries) do
  statuses[i] = 'ACKED'
  if entry and entry.token ~= ARGV[FIRST + GROUP * i - 1] then
    statuses[i], entries[i] = 'STALE_TOKEN', false
  elseif entry then
    ended[#ended + 1] = clients[i]
  end
end
if #ended > 0 then
  unqueue(ended)
  for i, entry in ipairs(entries) do
    if entry then acknowledge(clients[i], entry) end
  end
  note_ended(ended)
  event(scope, 'freed', unpack(freed))
end
return reply(scope, 'OK', next_due(), unpack(statuses))
