-- int: a number as decimal digits, for what is joined of it: `..` and table.concat turn a time stamp into
-- 1.7954189341651e+15. redis.call writes whole numbers out by itself.
local function int(number)
  return string.format('%.0f', number)
end
