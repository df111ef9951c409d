-- want: tells members what they are to close: wanted is owner -> { client, word, client, word ... }. One event each.
--- @include scope
local function want(scope, wanted)
  if not next(wanted) then return end
  --- @include event
  for owner, words in pairs(wanted) do
    redis.call('HSET', prefix .. 'wanted:' .. owner, unpack(words))
    event(scope, 'wanted', 'owner', owner)
  end
end
