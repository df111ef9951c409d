-- begin: reads what every script needs and runs the checks that come before all others.
-- ARGV[1]  owner     str    the calling node's owner token; empty for an operator
-- ARGV[2]  not_after int    scope clock in ms past which this request must do nothing; 0: no limit
-- ARGV[3]  dataset   str    the dataset the caller remembers; empty: none yet
-- ARGV[4]  writes    int    the caller's canary as it was last told
-- ARGV[5]  revision  int    the newest revision the caller was told
-- ARGV[6]  epoch     int    the newest epoch the caller was told
-- ARGV[7]  serial    int    counts the requests of this caller; 0: an operator
-- ARGV[8]  floor     int    what the caller sent below this serial it has given up: it must do nothing any more
-- Status   DATA_LOST | FENCED | LATE
--- @include scope
--- @include now
--- @include int
local function begin()
  local meta = redis.call('HMGET', key.meta, 'dataset', 'clock', 'raw', 'revision', 'epoch', 'generation', 'schema')
  local grace = redis.call('HMGET', key.grace, 'state', 'started', 'r1', 'in_force', 'reclaim_until', 'cap', 'r2',
    'length', 'bound', 'reason', 'r1_at', 'r2_at')
  local scope = {
    owner = ARGV[1], dataset = meta[1] or '', revision = tonumber(meta[4] or 0), epoch = tonumber(meta[5] or 0),
    generation = tonumber(meta[6] or 0), schema = meta[7] or '', writes = 0,
    state = grace[1] or 'normal', started = tonumber(grace[2] or 0), r1 = tonumber(grace[3] or 0),
    in_force = tonumber(grace[4] or 0), reclaim_until = tonumber(grace[5] or 0), cap = tonumber(grace[6] or 0),
    r2 = tonumber(grace[7] or 0), length = tonumber(grace[8] or 0), bound = tonumber(grace[9] or 0),
    reason = grace[10] or '', r1_at = tonumber(grace[11] or 0), r2_at = tonumber(grace[12] or 0),
  }
  scope.clock, scope.raw = now(tonumber(meta[2] or 0), tonumber(meta[3] or 0))

  -- Dataset and canary before the fence: a node must not take lost data for an eviction.
  if ARGV[3] ~= '' and (ARGV[3] ~= scope.dataset or scope.revision < tonumber(ARGV[5])
      or scope.epoch < tonumber(ARGV[6])) then
    return scope, 'DATA_LOST'
  end
  if scope.owner ~= '' then
    local node = redis.call('HMGET', derived('node', scope.owner), 'writes', 'fenced', 'acked', 'lease', 'margin',
      'grace', 'retention', 'floor')
    if not node[1] or tonumber(node[1]) < tonumber(ARGV[4]) then return scope, 'DATA_LOST' end
    scope.writes = tonumber(node[1])
    if node[2] then return scope, 'FENCED', node[2] end
    scope.acked, scope.lease, scope.margin = tonumber(node[3]), tonumber(node[4]), tonumber(node[5])
    scope.grace_ms, scope.retention, scope.floor = tonumber(node[6]), tonumber(node[7]), tonumber(node[8] or 0)
  elseif scope.dataset == '' then
    return scope, 'DATA_LOST'
  end
  -- Every answer's clock is kept, that of a read or of a late request too: the next script moves on from there, and a
  -- `not_after` that was counted from it has passed when it should (lease.py).
  redis.call('HSET', key.meta, 'clock', int(scope.clock), 'raw', int(scope.raw))
  local serial, floor = tonumber(ARGV[7]), tonumber(ARGV[8])
  if scope.owner ~= '' and floor > scope.floor then
    redis.call('HSET', derived('node', scope.owner), 'floor', int(floor))
  end
  -- The serial is certain where the clock is not: it may have been set back since `not_after` was counted.
  local given_up = scope.owner ~= '' and serial < scope.floor
  if given_up or (tonumber(ARGV[2]) > 0 and scope.clock > tonumber(ARGV[2])) then return scope, 'LATE' end
  return scope, nil
end
