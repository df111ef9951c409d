-- release_ack: the callback has freed everything. The registration goes, if it is still the one that ended.
-- ARGV[9]  name      bytes  name of the release
-- ARGV[10] token     str    token of the claim
-- ARGV[..] adapter   str    all adapters: a client without a record gives back whatever place it has
-- Returns  nothing
-- Status   DATA_LOST | FENCED | LATE | STALE_TOKEN | ACKED
-- Retry    safe: a release that is gone was acknowledged
-- Durable  no
-- Cost     O(adapters)
--- @include begin
--- @include commit
--- @include reply
--- @include release
--- @include registration
local name, token = ARGV[9], ARGV[10]
local FIRST = 11

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local entry = release.get(name)
if entry and entry.token ~= token then return reply(scope, 'STALE_TOKEN') end

commit(scope)
if entry then
  local parsed = release.parse(name)
  local owner, generation, client = parsed.owner, parsed.generation, parsed.client
  release.remove(name, client)
  local reg = registration(client)
  if reg and reg.owner == owner and (generation == '*' or int(reg.generation) == generation) then
    redis.call('DEL', derived('client', client))
    redis.call('SREM', derived('clients', owner), client)
    redis.call('SREM', derived('adapter', reg.adapter), client)
  else -- a record that expired left these behind
    if not reg or reg.owner ~= owner then redis.call('SREM', derived('clients', owner), client) end
    for i = FIRST, #ARGV do
      if not reg or reg.adapter ~= ARGV[i] then redis.call('SREM', derived('adapter', ARGV[i]), client) end
    end
  end
end
return reply(scope, 'ACKED')
