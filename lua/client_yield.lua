-- client_yield: the calling home has closed these clients, as it was asked (wanted): it confirms nothing more for them.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> wanted:<owner> due releases events
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  a group per client: status, generation, owner of its registration.
--          LIVE: nobody asks to have it any more, it stays. GONE: there was nothing to yield
-- Status   DATA_LOST | FENCED | LATE | GONE | REVOKED | LIVE | YIELDED | OK
-- Retry    safe: the repeat finds nothing wanted; what it yielded is taken back later (client_cancel)
-- Durable  no
-- Cost     O(clients)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include record
--- @include enqueue
--- @include event
local FIRST = 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)
keep_clock(scope)

local clients, answers, revoked = {}, {}, {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
local wanted = prefix .. 'wanted:' .. scope.owner
for i, word in ipairs(redis.call('HMGET', wanted, unpack(clients))) do
  local client = clients[i]
  local record = prefix .. 'client:' .. client
  local reg = redis.call('HMGET', record, OWNER, GENERATION, STATE)
  local status = 'GONE'
  if reg[1] == scope.owner and not reg[3] then
    status = 'LIVE'
    if word == 'yield' then
      redis.call('HSET', record, STATE, 'yielded')
      status = 'YIELDED'
    end
  elseif reg[1] == scope.owner and reg[3] == 'yielded' then
    status = 'YIELDED'
  elseif reg[1] == scope.owner and reg[3] == 'revoked' then
    redis.call('HSET', record, STATE, 'leaving')
    revoked[#revoked + 1] = { client = client, upto = tonumber(reg[2]), reason = 'revoked', at = scope.clock }
    status = 'REVOKED'
  end
  answers[i] = { status, tonumber(reg[2] or 0), reg[1] or '' }
end
redis.call('HDEL', wanted, unpack(clients))
if #revoked > 0 then
  enqueue(revoked)
  event(scope, 'due')
end
return reply(scope, 'OK', unpack(answers))
