-- node_join: a node enters the scope with its next incarnation. A healthy scope notices nothing.
-- ARGV[9]  node      str    the node's name
-- ARGV[10] boot      str    random per attempt of one process; the same again is a repeat
-- ARGV[11] fresh     str    dataset id to use if there is no data
-- ARGV[12] schema    str    the schema the caller speaks
-- ARGV[13] lease     int    ms
-- ARGV[14] margin    int    ms
-- ARGV[15] grace     int    ms
-- ARGV[16] retention int    ms
-- ARGV[17] bootstrap int    1: a scope without data is a new installation
-- ARGV[18] dead      int    1: the caller states that the process of an earlier incarnation is dead
-- ARGV[19] version   str    for display
-- ARGV[20] after     int    the incarnation that rejoins; 0: a new process. It never displaces a newer one
-- Returns  incarnation, ms of lease given (0: a repeat, the lease is as it was), id of the newest event
-- Status   DATA_LOST | FENCED | SCHEMA | JOINED
-- Retry    safe: a repeat with the same boot answers the same incarnation and leaves lease, ack and fence as they are
-- Durable  no
-- Cost     O(members)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include start_period
--- @include lapse
local node, boot, fresh, schema = ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local lease, margin, grace, retention = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local bootstrap, dead, version = ARGV[17] == '1', ARGV[18] == '1', ARGV[19]
local after = tonumber(ARGV[20])

local scope, refusal, why = begin()
local empty = scope.dataset == ''
if refusal == 'DATA_LOST' and not (empty and ARGV[3] == '') then return reply(scope, refusal) end
if refusal == 'FENCED' then return reply(scope, refusal, why) end
if not empty and scope.schema ~= schema then return reply(scope, 'SCHEMA', scope.schema) end

local function newest_event()
  local entry = redis.call('XREVRANGE', key.events, '+', '-', 'COUNT', 1)[1]
  if entry then return entry[1] end
  return '0-0'
end

local earlier = {}
for _, owner in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
  if string.match(owner, '^(.*):%d+$') == node then
    local life = redis.call('HMGET', derived('node', owner), 'boot', 'fenced', 'writes')
    if life[1] == boot then
      scope.writes = tonumber(life[3] or 0)
      if life[2] then return reply(scope, 'FENCED', life[2]) end
      return reply(scope, 'JOINED', string.match(owner, ':(%d+)$'), 0, newest_event())
    end
    if after > 0 and tonumber(string.match(owner, ':(%d+)$')) > after then
      return reply(scope, 'FENCED', 'superseded')
    end
    earlier[#earlier + 1] = owner
  end
end

if empty then
  scope.clock, scope.dataset = math.max(scope.clock, scope.raw), fresh
  redis.call('HSET', key.meta, 'dataset', fresh, 'schema', schema, 'revision', 0, 'epoch', 0, 'incarnation', 0,
    'clock', int(scope.clock), 'raw', int(scope.raw))
end
local last = tonumber(redis.call('HGET', key.meta, 'incarnation') or 0)
local incarnation = int(math.max(last + 1, scope.clock))
for _, owner in ipairs(earlier) do
  redis.call('HSETNX', derived('node', owner), 'fenced', 'superseded')
  if dead then lapse(scope, owner) end
end
scope.owner = node .. ':' .. incarnation
redis.call('HSET', derived('node', scope.owner), 'acked', int(scope.revision), 'writes', 0, 'boot', boot,
  'lease', int(lease), 'margin', int(margin), 'grace', int(grace), 'retention', int(retention), 'version', version,
  'joined', int(scope.clock))
redis.call('HSET', key.meta, 'incarnation', incarnation)
redis.call('ZADD', key.members, int(scope.clock + lease), scope.owner)
scope.acked, scope.margin = scope.revision, margin
commit(scope)
if empty and not bootstrap then
  -- Nobody remembers who held what: a full grace, which no roster can end early.
  start_period(scope, '', grace, 2 * lease + margin, 'cold start')
  redis.call('SADD', key.open, 'unknown')
end
event(scope, 'joined_node', 'owner', scope.owner)
advance(scope, empty) -- born here, the node has no older view
return reply(scope, 'JOINED', incarnation, lease, newest_event())
