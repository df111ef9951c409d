-- int: a number as decimal digits. Lua's own conversion turns a time stamp into 1.7954189341651e+15.
local function int(number)
  return string.format('%.0f', number)
end
