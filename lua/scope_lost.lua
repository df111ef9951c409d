-- scope_lost: the data are not those that the caller was told: everybody's life ends, and a full grace begins. Once per
-- loss: the dataset gets a new id, and every counter is lifted above all that the caller remembers. Rosters are what
-- the data still say. Nothing is in force before the longest lease and margin have passed (start_unknown).
-- EMPTY: there are no data at all. The counters are kept for the first join, which begins with a full grace.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> clients:<owner> holders:<owner> wanted:<owner> members lost open grace reclaimed forfeited
--          ended events
-- ARGV[2]  dataset   str    the id of the new dataset
-- ARGV[3]  clock     int    the scope clock that the caller remembers, ms
-- ARGV[4]  newest    int    the newest generation that the caller remembers
-- ARGV[5]  lease     int    ms
-- ARGV[6]  margin    int    ms
-- ARGV[7]  grace     int    ms
-- Returns  nothing
-- Status   EMPTY | KNOWN | LOST
-- Retry    safe: the repeat is KNOWN
-- Durable  no
-- Cost     O(members)
--- @include begin
--- @include now
--- @include reply
--- @include restored
--- @include start_unknown
local dataset, clock, newest = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease, margin, grace = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local scope = begin()
local told_dataset, told_revision, told_epoch = string.match(told, '^(%S+) (%d+) (%d+)')
local meta = redis.call('HMGET', KEYS[1], 'before', 'loss', 'incarnation', 'revision', 'epoch', 'generation')
if scope.view ~= '' then
  read_view(scope)
  if told_dataset ~= scope.dataset and (meta[1] == told_dataset or tonumber(meta[2] or 0) > clock) then
    -- What others remember of generations counts as well.
    if newest > tonumber(meta[6] or 0) then redis.call('HSET', KEYS[1], 'generation', newest) end
    return reply(scope, 'KNOWN')
  end
end

now(scope)
-- Without data: by a lease more, so that it is above what the others remember who have not said so yet.
scope.clock = math.max(scope.clock, clock + (scope.view == '' and lease or 0)) + 1
scope.revision = math.max(scope.revision or tonumber(meta[4] or 0), tonumber(told_revision))
scope.epoch = math.max(scope.epoch or tonumber(meta[5] or 0), tonumber(told_epoch))
local incarnation = tonumber(string.match(scope.owner, ':(%d+)$'))
-- A node that is dead may have made newer ones since this one was last told the clock.
local beyond = scope.clock + lease + margin
redis.call('HSET', KEYS[1], 'incarnation', math.max(tonumber(meta[3] or 0), incarnation, beyond),
  'generation', math.max(scope.generation, newest, beyond))
keep_clock(scope)
if scope.view == '' then
  redis.call('HSET', KEYS[1], 'revision', scope.revision, 'epoch', scope.epoch)
  return reply(scope, 'EMPTY')
end
redis.call('HSET', KEYS[1], 'before', told_dataset)

-- Every member's life ends; its rights are on rosters at once.
for _, owner in ipairs(redis.call('ZRANGE', prefix .. 'members', 0, -1)) do
  local node = prefix .. 'node:' .. owner
  local figures = redis.call('HMGET', node, 'lease', 'margin', 'retention', 'grace')
  lease, margin = math.max(lease, tonumber(figures[1] or 0)), math.max(margin, tonumber(figures[2] or 0))
  grace = math.max(grace, tonumber(figures[4] or 0))
  redis.call('HSET', node, 'fenced', 'data_lost')
  redis.call('PEXPIRE', node, figures[3] or 1)
  redis.call('UNLINK', prefix .. 'wanted:' .. owner)
  if redis.call('EXISTS', prefix .. 'holders:' .. owner, prefix .. 'clients:' .. owner) > 0 then
    redis.call('SADD', prefix .. 'lost', owner)
  end
end
redis.call('UNLINK', prefix .. 'members')
scope.lost = nil
forget_open()
scope.dataset, scope.active = dataset, false
start_unknown(scope, grace, lease, margin, 'data lost')
return reply(scope, 'LOST')
