-- attach: a registration that lives on, here: its deferral ends and its holder entry follows; its old owner is told,
-- unless that is gone: the clients of a dead node would push every other event out of the stream.
-- Copied from an old owner that is a member (that node may still serve it), moved if the client had left it, and never
-- taken from a lost owner: those rights must be reclaimed. What stays behind is noted (rights_left): a forfeit of it,
-- or of the original of a copy, takes with it all that the client held earlier (RFC 8881, 8.4.3, second edge).
-- The caller keeps `reg`, which attach changes; `moves` collects what attach_all then does for all clients at once.
--- @include scope
--- @include int
--- @include event
--- @include release
--- @include rights_left
--- @include closing
local function note_move(moves, owner, client)
  local move = moves[owner]
  if not move then
    move = { member = redis.call('ZSCORE', key.members, owner) ~= false, clients = {}, copies = {}, closing = {} }
    moves[owner] = move
  end
  move.clients[#move.clients + 1] = client
  return move
end

-- What the client has left behind at owners before `reg.owner`, and the generation of what it finds here again.
local function left_before(scope, client, reg)
  local left, found = {}, nil
  for owner, generation in rights_left(reg) do
    if redis.call('SISMEMBER', derived('holders', owner), client) == 1 then
      if owner == scope.owner then
        found = generation -- back here, where its right is still that of the time before
      else
        left[#left + 1] = owner .. '=' .. int(generation)
      end
    end
  end
  return left, found
end

local function attach(scope, client, reg, moves)
  local from, deferred = reg.owner, reg.state ~= 'live'
  if deferred then
    local name = release.name(from, int(reg.generation), client)
    local pending = release.get(name)
    if pending and pending.reason == 'disconnect' then release.remove(name, client) end
    redis.call('PERSIST', derived('client', client))
  end
  note_move(moves, scope.owner, client)
  if from == scope.owner then return end

  local move = note_move(moves, from, client)
  local left, copied = {}, nil
  if reg.left ~= '' then left, copied = left_before(scope, client, reg) end
  if move.member and deferred then
    if redis.call('SMOVE', derived('holders', from), derived('holders', scope.owner), client) == 1 then
      copied = reg.copied
    end
  elseif redis.call('SISMEMBER', derived('holders', from), client) == 1 then
    local right = reg.copied or reg.generation
    left[#left + 1] = from .. '=' .. int(right)
    if move.member then
      move.copies[#move.copies + 1], copied = client, right
    end
  end
  reg.left, reg.copied, reg.previous, reg.owner = table.concat(left, ' '), copied, from, scope.owner
  if move.member then
    if not deferred then
      move.closing[#move.closing + 1], move.closing[#move.closing + 2] = client, int(reg.generation)
    end
    event(scope, 'moved', 'client', client, 'owner', from, 'to', scope.owner, 'generation', int(reg.generation))
  end
end

local function attach_all(scope, moves)
  for owner, move in pairs(moves) do
    if owner == scope.owner then
      redis.call('SADD', derived('clients', owner), unpack(move.clients))
      redis.call('HDEL', derived('closing', owner), unpack(move.clients))
    else
      redis.call('SREM', derived('clients', owner), unpack(move.clients))
      if #move.copies > 0 then redis.call('SADD', derived('holders', scope.owner), unpack(move.copies)) end
      must_close(owner, move.closing)
    end
  end
end
