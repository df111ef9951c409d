-- is_restored: whether this is the name of a roster that a node brought from its lock store (restored.lua).
local function is_restored(name)
  return string.find(name, ':restored:', 1, true) ~= nil
end
