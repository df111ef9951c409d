-- orphan_drain: what an orphan left behind is put into the release queue, a batch at a time.
-- Up to the generation that the client had there, whatever the owner: its locks may have come with it from other
-- nodes. Not known (it moved away while the owner lived): all generations of that owner, which is fenced. Under a
-- restored roster: up to the generation of its start. A newer registration is not touched.
-- ARGV[7]  limit     int    clients per call, 1 to 200
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
local limit = tonumber(ARGV[7])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local owner = redis.call('SRANDMEMBER', key.orphans)
if not owner then return reply(scope, 'DRAINED', 0, 0, next_due()) end

commit(scope)
local restored = tonumber(redis.call('HGET', derived('node', owner), 'generation'))
local names, items = {}, {}

local function queue(client, reason)
  local reg = registration(client)
  local name, at = release.name(owner, '*', client), scope.clock
  if reg and reg.owner == owner then
    if reg.state == 'deferred' then at = math.max(at, reg.due) end
    name = release.name(owner, int(reg.generation), client)
  elseif reg and reason == 'orphaned' then
    return -- registered elsewhere since, and it held nothing here
  elseif restored then
    local upto = restored
    if reg then upto = math.min(upto, reg.generation - 1) end -- what it holds under its registration is no leftover
    name = release.name('*', int(upto), client)
  elseif reg and reg.lost_owner == owner then
    name = release.name(owner, reg.lost_generation, client)
  end
  if reg and reg.owner ~= owner and reg.copied == owner and reason == 'forfeited' then
    redis.call('SREM', derived('holders', reg.owner), client) -- the copy falls with the original
    redis.call('HDEL', derived('client', client), 'copied')
  end
  names[#names + 1], items[#items + 1] = name, { client = client, at = at, reason = reason }
end

local popped = redis.call('SPOP', derived('holders', owner), limit)
if #popped > 0 then redis.call('SREM', derived('clients', owner), unpack(popped)) end
for _, client in ipairs(popped) do queue(client, 'forfeited') end
if #names < limit then
  popped = redis.call('SPOP', derived('clients', owner), limit - #names)
  for _, client in ipairs(popped) do queue(client, 'orphaned') end
end
release.enqueue_all(names, items)
if redis.call('EXISTS', derived('holders', owner), derived('clients', owner)) == 0 then
  redis.call('SREM', key.orphans, owner)
  if restored then redis.call('DEL', derived('node', owner)) end
end
advance(scope, false)
return reply(scope, 'DRAINED', #names, redis.call('EXISTS', key.orphans), next_due())
