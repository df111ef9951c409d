"""The shipped ACL file grants what library and scripts run, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator import Settings
from coordinator.node.lease import Head
from coordinator.protocol import Call, script
from coordinator.protocol import call as base
from coordinator.protocol.keys import Keys
from coordinator.wire import asynchronous as redis_aio
from coordinator.wire import connector as redis_io
from tests import acl

LUA = "\n".join(path.read_text() for path in sorted(script.lua_directory().rglob("*.lua")))
LIBRARY = "".join(Path(str(module.__file__)).read_text() for module in (redis_io, redis_aio))
CONNECTION = {
    "select": "a URL with a database other than 0",
    "client|setname": "a client with a name",
    "ping": "a client that checks its connections, and Sentinel's",
}
START = {"info": "a check at start of maxmemory-policy and persistence"}


def used() -> set[str]:
    """Return the commands of the scripts, and those that the library sends."""
    call: Call[None] = base.call("grace_advance", Keys("n", "s"), Head("", 0, "", 0, 0, 0, 0.0), (0,), base.nothing)
    library = {redis_io.command(call)[0], redis_io.command(call, whole=True)[0], redis_io.reading(b"", "", 0.0)[0]}
    return {command.lower() for command in library | set(re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", LUA))}


def test_every_command_can_be_read_off_the_code() -> None:
    """No command is computed: each call in Lua names its own; the library sends nothing but calls and the reading."""
    code = re.sub(r"--.*", "", LUA)
    assert set(re.findall(r"\bredis\.(\w+)", code)) <= {"call", "pcall"}
    assert len(re.findall(r"\bredis\b", code)) == len(re.findall(r"redis\.p?call\(\s*'[A-Z]+'", code))
    sends = re.findall(r"\.send_\w+\((.*)\)", LIBRARY)
    reading = "*reading(self._key, after, self._block)"
    assert sorted(sends) == sorted(["*words", reading, "connection.pack_commands(commands)", reading])
    assert re.findall(r"self\._(?:command|pipeline)\((?:connection, )?(.*)\)", LIBRARY) == [
        "command(call)",
        "command(call, whole=True)",
        "[command(call) for call in calls]",
        "[command(calls[i], whole=True) for i in unknown]",
    ]


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
