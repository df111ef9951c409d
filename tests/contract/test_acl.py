"""The shipped ACL file grants what library and scripts run, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator import Settings
from coordinator.protocol import Call, Head, script
from coordinator.protocol import call as base
from coordinator.protocol.keys import Keys
from coordinator.wire import asynchronous, blocking, commands
from tests import acl

LUA = "\n".join(path.read_text() for path in sorted(script.lua_directory().rglob("*.lua")))
LIBRARY = "".join(Path(str(module.__file__)).read_text() for module in (blocking, asynchronous))
CONNECTION = {
    "select": "a URL with a database other than 0",
    "client|setname": "a client with a name",
    "ping": "a client that checks its connections, and Sentinel's",
}
START = {"info": "a check at start of maxmemory-policy and persistence"}


def used() -> set[str]:
    """Return the commands of the scripts, and those that the library sends."""
    keys = Keys("n", "s")
    call: Call[None] = base.call("grace_advance", keys.meta, Head("o:1", 0.0), (0,), base.nothing)
    sent = [commands.packed(call), commands.packed_whole(call)]
    library = {command.split(b"\r\n")[2].decode() for command in sent} | {
        commands.reading(keys.key("events"), "", 0.0)[0]
    }
    return {command.lower() for command in library | set(re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", LUA))}


def test_every_command_can_be_read_off_the_code() -> None:
    """No command is computed: each call in Lua names its own; the library sends nothing but calls and the reading."""
    code = re.sub(r"--.*", "", LUA)
    assert set(re.findall(r"\bredis\.(\w+)", code)) <= {"call", "pcall"}
    assert len(re.findall(r"\bredis\b", code)) == len(re.findall(r"redis\.p?call\(\s*'[A-Z]+'", code))
    reading = "*reading(self._key, after, self._block)"
    joined = '[b"".join([pending.command for pending in sent])]'
    assert sorted(re.findall(r"\.send_\w+\((.*)\)", LIBRARY)) == sorted(["[command]", reading, joined, reading])
    made = set(re.findall(r"\b(packed(?:_whole)?)\(", LIBRARY))
    assert made == {"packed", "packed_whole"}


def test_what_is_used_is_granted_and_nothing_else() -> None:
    """Neither is a command missing, nor one granted in vain; each once."""
    granted = [rule[1:] for rule in acl.rules() if rule.startswith("+")]
    assert set(granted) == used() | CONNECTION.keys() | START.keys()
    assert len(granted) == len(set(granted))


def test_the_user_has_nothing_but_these_commands_and_the_keys_of_the_default_namespace() -> None:
    """One line without a comment; no channel, no category, no password that works until an operator gives one."""
    assert acl.FILE.read_text().count("\n") == 1
    rest = [rule for rule in acl.rules() if not rule.startswith("+")]
    assert rest == ["on", "resetkeys", f"~{Settings().namespace}:*", "resetchannels", "-@all"]
    assert not any("@" in rule for rule in acl.rules() if rule.startswith("+"))
