-- orphan_drain: what an orphan left behind is put into the release queue, a batch at a time. A right is forfeited: all
-- that its client has up to that generation. A registration without one is `orphaned`, or its disconnect comes at its
-- time. What the client holds under a newer registration is not touched.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> clients:<owner> holders:<owner> orphans due releases forfeited
-- ARGV[2]  limit     int    clients per call, 1 to 200
-- Returns  how many were taken, 1 if orphans wait still, next due
-- Status   DATA_LOST | FENCED | LATE | DRAINED
-- Retry    safe: what was queued stays queued
-- Durable  no
-- Cost     O(limit)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include registration
--- @include enqueue
--- @include next_due
--- @include is_restored
local limit = tonumber(ARGV[2])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
local orphan = redis.call('SRANDMEMBER', prefix .. 'orphans')
if not orphan then return reply(scope, 'DRAINED', 0, 0, next_due()) end

commit(scope)
keep_clock(scope)
local holders, registered = prefix .. 'holders:' .. orphan, prefix .. 'clients:' .. orphan
local items, forfeited = {}, {}
local rights = redis.call('HRANDFIELD', holders, limit, 'WITHVALUES') or {} -- false on fakeredis
for i = 1, #rights, 2 do
  forfeited[#forfeited + 1] = rights[i]
  items[#items + 1] = { client = rights[i], upto = tonumber(rights[i + 1]), reason = 'forfeited', at = scope.clock }
end
if #forfeited > 0 then
  redis.call('HDEL', holders, unpack(forfeited))
  redis.call('SADD', prefix .. 'forfeited', unpack(forfeited))
  enqueue(items)
end
local taken = #items
if taken < limit then
  items = {}
  local clients = redis.call('SPOP', registered, limit - taken)
  taken = taken + #clients
  for _, client in ipairs(clients) do
    local reg = registration(client)
    if reg and reg.owner == orphan then
      local item = { client = client, upto = reg.generation, reason = 'orphaned', at = scope.clock }
      if reg.state == 'deferred' then
        item.reason, item.at = 'disconnect', math.max(reg.due, scope.clock)
      elseif reg.state == 'revoked' then
        item.reason = 'revoked'
      end
      if reg.state ~= 'leaving' then items[#items + 1] = item end
    end
  end
  enqueue(items)
end
if redis.call('EXISTS', holders, registered) == 0 then
  redis.call('SREM', prefix .. 'orphans', orphan)
  if is_restored(orphan) then redis.call('DEL', prefix .. 'node:' .. orphan) end
end
return reply(scope, 'DRAINED', taken, redis.call('EXISTS', prefix .. 'orphans'), next_due())
