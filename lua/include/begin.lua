-- begin: reads what every script needs and makes the checks that come before all others. It keeps the floor below which
-- its caller has given requests up: the one write before the checks of a script.
-- ARGV[1]  head      str    owner (`-`: an operator), serial, floor, canary and view as the caller knows them, packed
-- Status   DATA_LOST | FENCED | LATE
--- @include scope
local OPERATOR = '-'

local serial, told -- of the head, for the few scripts that ask for more than `scope` has

local function begin()
  local owner, floor, writes
  owner, serial, floor, writes, told = string.match(ARGV[1], '^(%S+) (%d+) (%d+) (%d+) (.*)$')
  local view = redis.call('HGET', KEYS[1], 'view') or ''
  local scope = { owner = owner, view = view, active = string.find(view, ' active ', 1, true) ~= nil, clock = 0,
    writes = 0 }
  -- Dataset and canary before the fence: a node must not take lost data for an eviction.
  if told ~= view and told ~= '' then -- another view: is it of other data, or of older ones?
    local dataset, revision, epoch = string.match(view, '^(%S+) (%d+) (%d+)')
    local told_dataset, told_revision, told_epoch = string.match(told, '^(%S+) (%d+) (%d+)')
    if dataset ~= told_dataset or tonumber(revision) < tonumber(told_revision)
        or tonumber(epoch) < tonumber(told_epoch) then
      return scope, 'DATA_LOST'
    end
  end
  if owner == OPERATOR then
    if view == '' then return scope, 'DATA_LOST' end
    return scope, nil
  end
  local node = redis.call('HMGET', prefix .. 'node:' .. owner, 'writes', 'fenced', 'floor')
  if not node[1] or tonumber(node[1]) < tonumber(writes) then return scope, 'DATA_LOST' end
  scope.writes = tonumber(node[1])
  if node[2] then return scope, 'FENCED', node[2] end
  -- A request that its caller has given up does nothing once a later one has arrived, whatever that was answered.
  if tonumber(serial) < tonumber(node[3]) then return scope, 'LATE' end
  if tonumber(floor) > tonumber(node[3]) then redis.call('HSET', prefix .. 'node:' .. owner, 'floor', floor) end
  return scope, nil
end
