-- registration: the record of a client, or nil; keep_registration writes it whole. Its state is live, deferred (a
-- disconnect waits) or leaving.
--- @include scope
--- @include int
local function registration(client)
  local r = redis.call('HMGET', derived('client', client), 'owner', 'generation', 'adapter', 'state', 'ttl',
    'remote_addr', 'registered_at', 'last_seen', 'previous', 'verifier', 'principal', 'request', 'due',
    'copied', 'left', 'completed', 'displaced')
  if not r[1] then return nil end
  return {
    owner = r[1], generation = tonumber(r[2]), adapter = r[3], state = r[4], ttl = tonumber(r[5]),
    remote_addr = r[6], registered_at = tonumber(r[7]), last_seen = tonumber(r[8]), previous = r[9] or '',
    verifier = r[10] or '', principal = r[11] or '', request = r[12] or '', due = tonumber(r[13] or 0),
    copied = tonumber(r[14] or ''), left = r[15] or '', completed = tonumber(r[16] or 0), displaced = r[17] or '',
  }
end

local function keep_registration(client, reg)
  redis.call('HSET', derived('client', client), 'owner', reg.owner, 'generation', int(reg.generation),
    'adapter', reg.adapter, 'state', reg.state, 'ttl', int(reg.ttl), 'remote_addr', reg.remote_addr,
    'registered_at', int(reg.registered_at), 'last_seen', int(reg.last_seen), 'previous', reg.previous,
    'verifier', reg.verifier, 'principal', reg.principal, 'request', reg.request, 'due', int(reg.due),
    'copied', reg.copied and int(reg.copied) or '', 'left', reg.left, 'displaced', reg.displaced)
end
