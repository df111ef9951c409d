-- scope_view: the whole picture, exact. Changes nothing.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> holders:<owner> adapter:<name> members lost grace reclaimed due
-- ARGV[..] adapter   str    adapters to count
-- Returns  remaining rights, reclaimed clients, started at, reason, summary of the last period (epoch, reason, started,
--          duration, reclaimed, forfeited), whom the barrier waits for, up to 10 clients still expected, members as
--          groups of owner, lease deadline, acked, fence, places as adapter, count, releases that wait
-- Status   DATA_LOST | FENCED | LATE | VIEW
-- Retry    safe
-- Durable  no
-- Cost     O(members + lost owners), and O(reclaimed x lost owners) while those are at most EXACT_MAX
--- @include begin
--- @include now
--- @include reply
--- @include remaining
--- @include rights
--- @include waiting_for
local FIRST, EXACT_MAX, SAMPLE, PAGE = 2, 1000, 10, 200

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
local left, done, sample, started, reason = 0, 0, {}, 0, ''
if scope.active then
  read_period(scope)
  started, reason = scope.started, scope.reason
  left, done = remaining(scope), redis.call('SCARD', prefix .. 'reclaimed')
  if done <= EXACT_MAX then
    -- One that reclaimed, and whose new home died as well, is on a roster again.
    local clients = redis.call('SMEMBERS', prefix .. 'reclaimed')
    for first = 1, #clients, PAGE do
      local page = { unpack(clients, first, math.min(first + PAGE - 1, #clients)) }
      for _ in pairs((rights_on_rosters(scope, page))) do done = done - 1 end
    end
  end
  for _, owner in ipairs(lost_owners(scope)) do
    if #sample < SAMPLE then
      local some = redis.call('HRANDFIELD', prefix .. 'holders:' .. owner, SAMPLE - #sample) or {} -- false on fakeredis
      for _, client in ipairs(some) do
        sample[#sample + 1] = client
      end
    end
  end
end
local last = redis.call('HMGET', prefix .. 'grace', 'last_epoch', 'last_reason', 'last_started', 'last_duration',
  'last_reclaimed', 'last_forfeited')
for i = 1, 6 do last[i] = last[i] or '' end
local members = {}
local entries = redis.call('ZRANGE', prefix .. 'members', 0, -1, 'WITHSCORES')
for i = 1, #entries, 2 do
  local node = redis.call('HMGET', prefix .. 'node:' .. entries[i], 'acked', 'fenced')
  members[#members + 1] = { entries[i], entries[i + 1], node[1] or '0', node[2] or '' }
end
local places = {}
for i = FIRST, #ARGV do places[#places + 1] = { ARGV[i], redis.call('SCARD', prefix .. 'adapter:' .. ARGV[i]) } end
return reply(scope, 'VIEW', left, done, started, reason, last, pending(scope), sample, members, places,
  redis.call('ZCARD', prefix .. 'due'))
