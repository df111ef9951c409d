-- orphan_drain: what an orphan left behind is put into the release queue, a batch at a time.
-- A forfeited right goes up to the generation that the client had there, whatever the owner: its locks may have come
-- with it from other nodes, and what it left at those is forfeited too. Without a record of the client: all generations
-- of that owner, which is fenced. Under a restored roster: up to the generation of its start. What the client holds
-- under a newer registration is not touched. One that held nothing is `orphaned`: only its registration there ends, and
-- if it had left before, its disconnect says when.
-- ARGV[9]  limit     int    clients per call, 1 to 200
-- Returns  how many were queued, 1 if orphans wait still, next due
-- Status   DATA_LOST | FENCED | LATE | DRAINED
-- Retry    safe: what was queued stays queued
-- Durable  no
-- Cost     O(limit + members + lost owners)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include release
--- @include registration
--- @include next_due
--- @include rights_left
local limit = tonumber(ARGV[9])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local owner = redis.call('SRANDMEMBER', key.orphans)
if not owner then return reply(scope, 'DRAINED', 0, 0, next_due()) end

commit(scope)
local restored = tonumber(redis.call('HGET', derived('node', owner), 'generation'))
local names, items = {}, {}

local function generation_there(reg)
  if restored then return reg and math.min(restored, reg.generation - 1) or restored end
  if reg and reg.owner == owner then return reg.generation end
  for left, generation in rights_left(reg or { left = '' }) do
    if left == owner then return generation end
  end
end

local function forfeit_earlier(client, reg, upto)
  for left, generation in rights_left(reg) do
    if generation <= upto then redis.call('SREM', derived('holders', left), client) end
  end
  if reg.copied and reg.copied <= upto then
    redis.call('SREM', derived('holders', reg.owner), client)
    redis.call('HSET', derived('client', client), 'copied', '')
  end
end

local function queue(client, reason, upto, at)
  names[#names + 1] = release.name(restored and '*' or owner, upto and int(upto) or '*', client)
  items[#items + 1] = { client = client, at = at, reason = reason }
end

local function forfeit(client)
  local reg, at = registration(client), scope.clock
  if reg and reg.owner == owner and reg.state == 'deferred' then at = math.max(at, reg.due) end
  local upto = generation_there(reg)
  if reg and upto then forfeit_earlier(client, reg, upto) end
  queue(client, 'forfeited', upto, at)
end

local function orphan(client)
  local reg = registration(client)
  if not reg or (reg.owner == owner and reg.state == 'live') then
    queue(client, 'orphaned', reg and reg.generation, scope.clock)
  elseif reg.owner == owner and reg.state == 'deferred' then
    queue(client, 'disconnect', reg.generation, math.max(reg.due, scope.clock)) -- it may wait for the period's cap
  end
end

local popped = redis.call('SPOP', derived('holders', owner), limit)
if #popped > 0 then redis.call('SREM', derived('clients', owner), unpack(popped)) end
for _, client in ipairs(popped) do forfeit(client) end
if #names < limit then
  popped = redis.call('SPOP', derived('clients', owner), limit - #names)
  for _, client in ipairs(popped) do orphan(client) end
end
release.enqueue_all(names, items)
if redis.call('EXISTS', derived('holders', owner), derived('clients', owner)) == 0 then
  redis.call('SREM', key.orphans, owner)
  if restored then redis.call('DEL', derived('node', owner)) end
end
advance(scope, false)
return reply(scope, 'DRAINED', #names, redis.call('EXISTS', key.orphans), next_due())
