-- end_right: a registration's right ends now: off every roster, no holder any more, its locks due for release.
--- @include scope
--- @include int
--- @include release
--- @include forget_right
local function end_right(scope, client, reg, reason)
  forget_right({ client })
  redis.call('SREM', derived('holders', reg.owner), client)
  release.enqueue(release.name(reg.owner, int(reg.generation), client), client, scope.clock, reason)
end
