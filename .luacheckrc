-- The flattened scripts as Redis runs them: Lua 5.1 and the globals that Redis gives.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV" }
-- 120 in the sources; what is included in a block is indented.
max_line_length = 126
-- An include that has several functions gives a script all of them, as record.lua gives all its fields. A contract test
-- asks that each is called somewhere. The text of an include is the same in a block, where `scope` stands around it.
ignore = {
  "211/forget_roster", "211/keep_clock", "211/keep_view", "211/pending", "211/read_view", "211/restored_roster",
  "211/forget_open", "211/release_line", "211/rights_on_rosters", "211/[A-Z]+", "431", "432",
}
