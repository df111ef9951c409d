-- rights_left: the holder entries that a client left behind at owners it went from, noted in its field `left` as
-- `owner=generation`: the newest generation whose locks that right covers. An entry may be gone by now.
local function rights_left(reg)
  local each = string.gmatch(reg.left, '(%S+)=(%d+)')
  return function()
    local owner, generation = each()
    return owner, tonumber(generation)
  end
end
