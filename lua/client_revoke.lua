-- client_revoke: the client's right to its locks ends now, whoever serves it. Its locks are due when nobody can confirm
-- one more: at once, or when its home has closed it (client_yield) or is a member no more.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> wanted:<owner> members lost due releases grace open
--          reclaimed forfeited orphans ended events
-- ARGV[2]  first     int    serial of the first attempt of this very call, if that got no answer; else 0
-- ARGV[3]  client    bytes  client id
-- Returns  owner of its registration (empty: none), its generation
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | REVOKED
-- Retry    safe: a repeat changes nothing more, also if the client has connected anew since
-- Durable  revoke
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include generations
--- @include reply
--- @include registration
--- @include record
--- @include rights
--- @include release
--- @include enqueue
--- @include waiting_home
--- @include want
--- @include event
--- @include advance
local first, client = ARGV[2], ARGV[3]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
local mine = prefix .. 'node:' .. scope.owner
if first ~= '0' and redis.call('HGET', mine, 'revoked') == first then return reply(scope, 'REVOKED', '', 0) end
local reg = registration(client)
local owner_of, generation_of = rights_on_rosters(scope, { client })
if not owner_of[client] then
  owner_of, generation_of = rights_under({ client }, redis.call('ZRANGE', prefix .. 'members', 0, -1))
end
local right = owner_of[client]
if not reg and not right then
  if releases_of({ client })[1] then return reply(scope, 'REVOKED', '', 0) end -- a repeat
  return reply(scope, 'UNKNOWN')
end
if reg and reg.state == 'leaving' and not right then return reply(scope, 'REVOKED', reg.owner, reg.generation) end

commit(scope)
keep_clock(scope)
-- A repeat must not end a newer registration. A node revokes one client at a time.
if scope.owner ~= OPERATOR then redis.call('HSET', mine, 'revoked', first == '0' and serial or first) end
if right then redis.call('HDEL', prefix .. 'holders:' .. right, client) end
local owner, upto, wanted = '', right and generation_of[client] or 0, {}
if reg then
  owner, upto = reg.owner, math.max(upto, reg.generation)
  local is_served = reg.state == 'live' or reg.state == 'revoked'
  reg.state = 'leaving'
  if is_served and owner ~= scope.owner and redis.call('ZSCORE', prefix .. 'members', owner) then
    reg.state, wanted[owner] = 'revoked', { client, 'revoke' }
  end
  redis.call('HSET', prefix .. 'client:' .. client, STATE, reg.state)
end
if scope.active and redis.call('SISMEMBER', prefix .. 'open', 'unknown') == 1 then
  -- After lost data its locks may be of a newer life than Redis remembers: all of them end, and no store brings it back.
  upto = generations(scope, 1) + 1
  redis.call('SADD', prefix .. 'forfeited', client)
end
enqueue({ { client = client, upto = upto, reason = 'revoked',
  at = math.max(scope.clock, waiting_home(scope, reg)) } })
want(scope, wanted)
event(scope, 'revoked', 'client', client, 'owner', owner, 'generation', upto)
advance(scope)
return reply(scope, 'REVOKED', owner, upto)
