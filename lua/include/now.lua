-- now: the scope clock in ms, and the machine's time it was computed from.
-- raw is TIME; the clock moves by clamp(raw - last raw, 0, 2000): it never goes back, and no step of the
-- machine's clock, outage of Redis or pause of all nodes moves it by more than STEP_MAX_MS.
local STEP_MAX_MS = 2000

local function now(clock, last_raw)
  local time = redis.call('TIME')
  local raw = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  return clock + math.max(0, math.min(raw - last_raw, STEP_MAX_MS)), raw
end
