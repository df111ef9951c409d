-- now: the scope clock in ms. raw is the machine's TIME; the clock moves by clamp(raw - last raw, 0, 2000): it never
-- goes back, and no step of the machine's clock, outage of Redis or pause of all nodes moves it by more than
-- STEP_MAX_MS. A script that calls it answers the clock, and stores it (keep_clock) before it writes a time, unless
-- both are what is stored already.
local STEP_MAX_MS = 2000

local function now(scope)
  local stored = redis.call('HMGET', KEYS[1], 'clock', 'raw', 'generation')
  local time = redis.call('TIME')
  local raw, clock = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(stored[1] or 0)
  local step = raw - (stored[2] or 0)
  if step > STEP_MAX_MS then step = STEP_MAX_MS end
  if step > 0 then scope.clock = clock + step else scope.clock = clock end
  scope.raw, scope.generation = raw, tonumber(stored[3] or 0)
  scope.stored = step == 0 and clock or nil
end

local function keep_clock(scope)
  if scope.clock ~= scope.stored then redis.call('HSET', KEYS[1], 'clock', scope.clock, 'raw', scope.raw) end
end
