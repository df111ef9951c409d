-- scope_view: the whole picture, exact. Changes nothing but the clock.
-- ARGV[..] adapter   str    adapters to count
-- Returns  remaining rights, reclaimed clients, in force since, started at, reason, summary of the last period
--          (epoch, reason, started, duration, reclaimed, forfeited), whom the barrier waits for, up to 10 clients
--          still expected, members as groups of owner, lease deadline, acked, fence, places as adapter, count,
--          releases that wait
-- Status   DATA_LOST | FENCED | LATE | VIEW
-- Retry    safe
-- Durable  no
-- Cost     O(members + lost owners), and O(rights) while they are at most EXACT_MAX
--- @include begin
--- @include reply
--- @include remaining
--- @include waiting_for
local FIRST, EXACT_MAX, SAMPLE = 9, 1000, 10

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local left, done, sample, waiting = 0, 0, {}, {}
if scope.state == 'active' then
  left, done = remaining(), redis.call('SCARD', key.reclaimed)
  local rosters = {}
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do rosters[#rosters + 1] = derived('holders', owner) end
  if #rosters > 0 and left + done <= EXACT_MAX then
    -- A client may be on two rosters, and on one again after it reclaimed.
    left = #redis.call('SUNION', unpack(rosters))
    done = #redis.call('SDIFF', key.reclaimed, unpack(rosters))
  end
  for _, roster in ipairs(rosters) do
    if #sample < SAMPLE then
      for _, client in ipairs(redis.call('SRANDMEMBER', roster, SAMPLE - #sample)) do sample[#sample + 1] = client end
    end
  end
  local barrier = scope.r2
  if barrier == 0 and scope.in_force == 0 then barrier = scope.r1 end
  if barrier > 0 then waiting = waiting_for(scope, barrier) end
end
local last = redis.call('HMGET', key.grace, 'last_epoch', 'last_reason', 'last_started', 'last_duration',
  'last_reclaimed', 'last_forfeited')
for i = 1, 6 do last[i] = last[i] or '' end
local members = {}
local entries = redis.call('ZRANGE', key.members, 0, -1, 'WITHSCORES')
for i = 1, #entries, 2 do
  local node = redis.call('HMGET', derived('node', entries[i]), 'acked', 'fenced')
  members[#members + 1] = { entries[i], entries[i + 1], node[1] or '0', node[2] or '' }
end
local places = {}
for i = FIRST, #ARGV do places[#places + 1] = { ARGV[i], redis.call('SCARD', derived('adapter', ARGV[i])) } end
return reply(scope, 'VIEW', left, done, scope.in_force, scope.started, scope.reason, last, waiting, sample, members,
  places, redis.call('ZCARD', key.due))
