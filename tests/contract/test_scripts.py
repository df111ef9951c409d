"""The header contracts: slots, statuses, arguments, includes and Python hold together."""

from __future__ import annotations

import re

import pytest

from coordinator.protocol import script
from coordinator.protocol.call import _REFUSALS
from tools.keyspace import reached

NAMES = script.names()
INCLUDES = sorted(path.stem for path in (script.lua_directory() / "include").glob("*.lua"))
OF_NO_NODE = ("scope_init", "scope_lost")
"""Scripts that are answered whatever the head says."""
GOOD = {
    "ACKED", "ADMITTED", "ADVANCED", "ALIVE", "CANCELLED", "CLAIMED", "COMPLETED", "DRAINED", "DROPPED", "DUE", "EMPTY",
    "ENDED", "EVICTED", "GONE", "HOLDS", "INITIALIZED", "JOINED", "KNOWN", "LEFT", "LIVE", "LOST", "NOT_DEFERRED", "OK",
    "PAGE", "REGISTERED", "RENEWED", "REVOKED", "STALE_TOKEN", "STARTED", "TOUCHED", "VIEW", "WITHDRAWN", "YIELDED",
}  # fmt: skip
"""Statuses that are no refusal."""
FORBIDDEN = ("KEYS'", "'SCAN'", "cjson", "cmsgpack", "'EVAL", "os.", "io.", "math.random", "loadstring")


def _code(text: str) -> str:
    return re.sub(r"--.*", "", text)


def test_the_protocols_scripts_exist() -> None:
    """Every script of protocol.md, section 5, is a file, and no other."""
    assert set(NAMES) == {
        "node_join", "node_renew", "node_leave", "node_evict", "grace_start", "grace_end", "grace_advance",
        "reclaim_admit", "reclaim_complete", "client_register", "client_unregister", "client_cancel", "client_hold",
        "client_drop", "client_touch", "client_revoke", "release_claim", "release_renew", "release_ack",
        "orphan_drain", "scope_view", "client_view", "client_page", "roster_page", "client_yield", "grace_withdraw",
        "scope_init", "scope_lost",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_one_key_is_declared(name: str) -> None:
    """Every script is given `meta` and says so; the others are built from it."""
    loaded = script.load(name)
    assert set(re.findall(r"KEYS\[(\d+)\]", _code(loaded.source))) == {"1"}
    assert re.search(r"^-- KEYS\[1\]  meta +hash +meta$", _text(name), re.MULTILINE)


def test_every_refusal_is_in_the_one_table() -> None:
    """Each status of a header is either a success or in the table of refusals, and the table has no other."""
    statuses = {status for name in NAMES for status in script.load(name).statuses}
    assert statuses == GOOD | _REFUSALS.keys() | {"LATER"}
    assert not GOOD & _REFUSALS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_statuses_are_those_of_the_body(name: str) -> None:
    """Each status word of the header stands in the source, and each word of a reply stands in the header."""
    loaded = script.load(name)
    code = _code(loaded.source)
    for status in loaded.statuses:
        assert f"'{status}'" in code, f"{status} is never answered"
    for word in re.findall(r"reply\(scope, '([A-Z_]+)'", code):
        assert word in loaded.statuses, f"{word} is not declared"


@pytest.mark.parametrize("name", NAMES)
def test_common_statuses_come_first(name: str) -> None:
    """Dataset and canary, then the fence, then lateness: before everything else."""
    first = () if name in OF_NO_NODE else ("DATA_LOST", "FENCED", "LATE")
    assert script.load(name).statuses[: len(first)] == first


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_declared(name: str) -> None:
    """The arguments that the body reads by number are those of the header."""
    loaded = script.load(name)
    declared = [position for position, *_ in loaded.arguments if position != ".."]
    used = sorted({int(number) for number in re.findall(r"ARGV\[(\d+)\]", _code(loaded.source))})
    assert used == sorted(int(number) for number in declared)
    first = re.search(r"FIRST(?:, \w+)* = (\d+)", _code(loaded.source))
    repeated = [argument for argument in loaded.arguments if argument[0] == ".."]
    assert bool(first) == bool(repeated)
    if first:
        assert int(first[1]) == len(declared) + 1
    group = re.search(r"FIRST, GROUP = \d+, (\d+)", _code(loaded.source))
    if group:
        assert int(group[1]) == len(repeated)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_forbidden(name: str) -> None:
    """No unbounded commands, no codecs, no clock but `now`; globals are luacheck's and a real server's to refuse."""
    loaded = script.load(name)
    code = _code(loaded.source)
    for word in FORBIDDEN:
        assert word not in code
    assert code.count("'TIME'") == loaded.includes.count("now")


FIRSTS = (
    "commit(scope)",
    "keep_clock(scope)",
    "generations(scope",
    "redis.call('HSET', KEYS[1], 'schema'",
    "if newest > tonumber(meta[6] or 0) then redis.call('HSET'",
)
"""What a script that writes does first."""


@pytest.mark.parametrize("name", NAMES)
def test_checks_come_before_the_first_write(name: str) -> None:
    """A script that writes commits first, and nothing before its commit writes."""
    text = _code((script.lua_directory() / f"{name}.lua").read_text())
    body = text[text.index("begin()") :]
    firsts = [body.index(first) for first in FIRSTS if first in body]
    head = body[: min(firsts, default=len(body))]
    functions = re.sub(r"^local function .*?^end", "", head, flags=re.MULTILINE | re.DOTALL)
    writes = re.findall(r"'(HSET|SADD|SREM|ZADD|ZREM|DEL|UNLINK|HINCRBY|HDEL|SPOP|PEXPIRE|PERSIST)'", functions)
    assert writes == []
    after = body[min(firsts, default=len(body)) :]
    assert "return reply(scope, refusal" not in after


def test_every_include_is_used() -> None:
    """No include is left over."""
    used = {include for name in NAMES for include in script.load(name).includes}
    assert used == set(INCLUDES)


def _text(name: str) -> str:
    folder = script.lua_directory()
    return (folder / f"include/{name}.lua" if name in INCLUDES else folder / f"{name}.lua").read_text()


def _includes(name: str) -> set[str]:
    return set(script._INCLUDE.findall(_text(name)))


@pytest.mark.parametrize("name", INCLUDES)
def test_every_function_of_an_include_is_called(name: str) -> None:
    """By some script, from code that it reaches: nothing in lua/ is dead."""
    for function in re.findall(r"^(?:local )?function ([\w.]+)\(", _code(_text(name)), re.MULTILINE):
        called = re.compile(rf"(?<![\w.]){re.escape(function)}\(")
        assert any(called.search(reached(script.load(other).source)) for other in NAMES), function


@pytest.mark.parametrize("name", [*NAMES, *INCLUDES])
def test_a_file_uses_what_it_includes(name: str) -> None:
    """Each include is of use to the very file that names it; or to all that name that, which ask it for an argument."""
    for include in _includes(name):
        found = re.findall(r"^local (?:function )?([\w, ]+)", _code(_text(include)), re.MULTILINE)
        names = "|".join(name for line in found for name in re.findall(r"\w+", line))
        users = [other for other in (*NAMES, *INCLUDES) if name in _includes(other)]
        used = [bool(re.search(rf"\b(?:{names})\b", _code(_text(one)))) for one in (name, *users)]
        assert used[0] or (users and all(used[1:])), f"{name} does not use {include}"


def test_the_address_is_the_contents() -> None:
    """Two scripts of the same text have the same address, another text another."""
    assert len({script.load(name).sha for name in NAMES}) == len(NAMES)
