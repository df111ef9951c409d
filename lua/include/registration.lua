-- registration: the record of a client, or nil; not what only some scripts need of it (record).
--- @include scope
--- @include record
local function registration(client)
  local r = redis.call('HMGET', prefix .. 'client:' .. client, OWNER, GENERATION, ADAPTER, TTL, SINCE, STATE, DUE)
  if not r[1] then return nil end
  return { owner = r[1], generation = tonumber(r[2]), adapter = r[3], ttl = tonumber(r[4] or 0), since = r[5],
    state = r[6] or 'live', due = tonumber(r[7] or 0) }
end
