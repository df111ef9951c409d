-- node_join: a node enters the scope with its next incarnation. A healthy scope notices nothing. A scope without data
-- begins with a full grace, unless it was marked as new (scope_init).
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> members lost open grace reclaimed forfeited events
-- ARGV[2]  node      str    the node's name
-- ARGV[3]  boot      str    random per life of a process; the same again is a repeat
-- ARGV[4]  fresh     str    dataset id to use if there is no data
-- ARGV[5]  schema    str    the schema the caller speaks
-- ARGV[6]  lease     int    ms
-- ARGV[7]  margin    int    ms
-- ARGV[8]  grace     int    ms
-- ARGV[9]  retention int    ms
-- ARGV[10] dead      int    1: the caller states that the process of an earlier incarnation is dead
-- ARGV[11] version   str    for display
-- Returns  incarnation, ms of lease given (0: a repeat, the lease is as it was), id of the newest event
-- Status   SCHEMA | FENCED | JOINED
-- Retry    safe: a repeat with the same boot answers the same incarnation and leaves lease, ack and fence as they are
-- Durable  no
-- Cost     O(members)
--- @include begin
--- @include now
--- @include reply
--- @include new_scope
--- @include start_unknown
--- @include lapse
local node, boot, fresh, schema = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lease, margin, grace = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local retention, dead, version = ARGV[9], ARGV[10] == '1', ARGV[11]

local scope = begin()
local found = redis.call('HGET', KEYS[1], 'schema')
if found and found ~= schema then return reply(scope, 'SCHEMA', found) end
now(scope)

local function newest_event()
  local entry = redis.call('XREVRANGE', prefix .. 'events', '+', '-', 'COUNT', 1)[1]
  return entry and entry[1] or '0-0'
end

local earlier = {}
for _, owner in ipairs(redis.call('ZRANGE', prefix .. 'members', 0, -1)) do
  if string.match(owner, '^(.*):%d+$') == node then
    local life = redis.call('HMGET', prefix .. 'node:' .. owner, 'boot', 'fenced', 'writes')
    if life[1] == boot then
      scope.writes = tonumber(life[3])
      if life[2] then return reply(scope, 'FENCED', life[2]) end
      return reply(scope, 'JOINED', string.match(owner, ':(%d+)$'), 0, newest_event())
    end
    earlier[#earlier + 1] = owner
  end
end

local empty = scope.view == ''
if empty then
  -- Above what nodes have said that they remember (scope_lost).
  local before = redis.call('HMGET', KEYS[1], 'revision', 'epoch')
  redis.call('HSET', KEYS[1], 'schema', schema)
  new_scope(scope, fresh, tonumber(before[1] or 0), tonumber(before[2] or 0))
  redis.call('HDEL', KEYS[1], 'revision', 'epoch')
end
read_view(scope)
local last = tonumber(redis.call('HGET', KEYS[1], 'incarnation') or 0)
local incarnation = int(math.max(last + 1, scope.clock))
for _, owner in ipairs(earlier) do
  redis.call('HSETNX', prefix .. 'node:' .. owner, 'fenced', 'superseded')
  if dead then lapse(scope, owner) end
end
scope.owner = node .. ':' .. incarnation
redis.call('HSET', KEYS[1], 'incarnation', incarnation)
keep_clock(scope)
if empty then start_unknown(scope, grace, lease, margin, 'no data') end
-- Born here, it has no older view: its ack is the present revision. First what every request reads (begin).
redis.call('HSET', prefix .. 'node:' .. scope.owner, 'writes', 1, 'floor', 0, 'acked', scope.revision, 'boot', boot,
  'lease', lease, 'margin', margin, 'grace', grace, 'retention', retention, 'version', version,
  'joined', scope.clock)
redis.call('ZADD', prefix .. 'members', scope.clock + lease, scope.owner)
scope.writes = 1
event(scope, 'joined_node', 'owner', scope.owner)
return reply(scope, 'JOINED', incarnation, lease, newest_event())
