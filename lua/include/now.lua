-- now: the scope clock in ms. raw is the machine's TIME; the clock moves by clamp(raw - last raw, 0, 2000): it never
-- goes back, and no step of the machine's clock, outage of Redis or pause of all nodes moves it by more than
-- STEP_MAX_MS. A script that calls it answers the clock, and stores it with its first write (keep_clock).
--- @include int
local STEP_MAX_MS = 2000

local function now(scope)
  local time = redis.call('TIME')
  local raw = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  scope.clock = scope.clock + math.max(0, math.min(raw - tonumber(scope.raw), STEP_MAX_MS))
  scope.raw, scope.timed = raw, true
end

local function keep_clock(scope)
  redis.call('HSET', KEYS[1], 'clock', int(scope.clock), 'raw', int(scope.raw))
end
