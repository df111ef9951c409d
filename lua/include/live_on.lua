-- live_on: a registration lives on here, under a new generation: its disconnect is cancelled, its right comes along.
-- `home` says that the old owner is a member (or the caller). What is on a roster stays there: it must be reclaimed.
-- Returns 1 if the client is a holder here now, else 0. The caller writes the record.
-- note_moves: tells the members whose yielded clients were taken, one event each. moves: owner -> { 'client', id ... }.
--- @include scope
local function live_on(scope, client, reg, generation, home, moves)
  if reg.state == 'deferred' or reg.state == 'leaving' then
    --- @include release
    --- @include unqueue
    local entry = releases_of({ client })[1]
    if entry and entry.reason == 'disconnect' and not entry.claimed then unqueue({ client }) end
  end
  local here, holder = prefix .. 'holders:' .. scope.owner, 0
  if reg.owner == scope.owner then
    holder = redis.call('HEXISTS', here, client)
  else
    redis.call('SREM', prefix .. 'clients:' .. reg.owner, client)
    redis.call('SADD', prefix .. 'clients:' .. scope.owner, client)
    if home then holder = redis.call('HDEL', prefix .. 'holders:' .. reg.owner, client) end
    if reg.state == 'yielded' then
      moves[reg.owner] = moves[reg.owner] or {}
      table.insert(moves[reg.owner], 'client')
      table.insert(moves[reg.owner], client)
      table.insert(moves[reg.owner], 'upto')
      table.insert(moves[reg.owner], generation)
    end
  end
  if holder == 1 then redis.call('HSET', here, client, generation) end
  return holder
end

local function note_moves(scope, moves)
  if not next(moves) then return end
  --- @include event
  for owner, clients in pairs(moves) do
    event(scope, 'moved', 'owner', owner, 'to', scope.owner, unpack(clients))
  end
end
