"""The shipped ACL file grants what library and scripts run, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator import Settings, redis_io, script
from tests import acl

LUA = "\n".join(path.read_text() for path in sorted(script.lua_directory().rglob("*.lua")))
LIBRARY = Path(redis_io.__file__).read_text()
CONNECTION = {
    "select": "a URL with a database other than 0",
    "client|setname": "a client with a name",
    "ping": "a client that checks its connections, and Sentinel's",
}
START = {"info": "a check at start of maxmemory-policy and persistence"}


def used() -> set[str]:
    """Return the commands of the scripts, and those that the library sends."""
    scripts = set(re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", LUA))
    library = set(re.findall(r"_command\(\s*\"([A-Z]+)\"", LIBRARY))
    return {command.lower() for command in scripts | library}


def test_every_command_can_be_read_off_the_code() -> None:
    """No command is computed: each call in Lua names its own; in Python only the place that passes one on does not."""
    code = re.sub(r"--.*", "", LUA)
    assert set(re.findall(r"\bredis\.(\w+)", code)) <= {"call", "pcall"}
    assert len(re.findall(r"\bredis\b", code)) == len(re.findall(r"redis\.p?call\(\s*'[A-Z]+'", code))
    unnamed = re.findall(r"(\w*_command\([^\"].*)", LIBRARY)
    assert [line.split(")")[0] for line in unnamed] == ["_command(self, *command: Any", "send_command(*command"]


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
