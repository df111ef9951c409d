"""The header contracts: slots, statuses, arguments, includes and Python hold together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest

from coordinator.protocol import script
from coordinator.protocol.call import _REFUSALS
from tests.every_call import every_call
from tests.world import World
from tools.keyspace import WRITES, reached

if TYPE_CHECKING:
    from coordinator.protocol import Call

NAMES = script.names()
INCLUDES = sorted(path.stem for path in (script.lua_directory() / "include").glob("*.lua"))
WHATEVER_THE_HEAD = ("node_join", "scope_init", "scope_lost")
"""Scripts that answer whatever the checks of `begin` say: who asks is no member yet, or has lost data to tell of."""
UNCOUNTED = {"client_touch", "grace_advance", "node_join", "node_renew", "scope_init", "scope_lost"}
"""Scripts whose writes the canary does not count: a node may forget them, or no node is there yet."""
GOOD = {
    "ACKED", "ADMITTED", "ADVANCED", "ALIVE", "CANCELLED", "CLAIMED", "COMPLETED", "DRAINED", "DROPPED", "DUE", "EMPTY",
    "ENDED", "EVICTED", "EXPECTED", "FORFEITED", "GONE", "HOLDS", "INITIALIZED", "JOINED", "KNOWN", "LEFT", "LIVE",
    "LOST", "NOT_DEFERRED", "OK", "PAGE", "REGISTERED", "RENEWED", "REVOKED", "STALE_TOKEN", "STARTED", "TOUCHED",
    "VIEW", "WITHDRAWN", "YIELDED",
}  # fmt: skip
"""Statuses that are no refusal."""
OPTIONS = {"COUNT", "LIMIT", "MAXLEN", "WITHSCORES", "WITHVALUES"}
"""Words in capitals that are of Redis."""
FORBIDDEN = (
    "'KEYS'",
    "'SCAN'",
    "'FLUSH",
    "cjson",
    "cmsgpack",
    "'EVAL",
    "os.",
    "io.",
    "math.random",
    "loadstring",
    "_G.",
    "_G[",
)
COMMAND = re.compile(r"redis\.call\('(\w+)'")


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
    assert statuses == GOOD | _REFUSALS.keys()
    assert not GOOD & _REFUSALS.keys()


def test_python_knows_no_status_that_no_script_has() -> None:
    """Every word in capitals that calls and flows compare with is a status."""
    folder = script.lua_directory().parent / "coordinator"
    files = [path for name in ("protocol", "node") for path in (folder / name).glob("*.py")]
    not_code = re.compile(r'"""[^"]*"""|#.*|^__all__ = .*', re.MULTILINE)
    code = "\n".join(not_code.sub("", path.read_text(encoding="utf-8")) for path in files)
    words = set(re.findall(r'b?"([A-Z][A-Z_]+)"', code))
    assert len(words) > 20
    assert words <= GOOD | _REFUSALS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_statuses_are_those_of_the_body(name: str) -> None:
    """The status words that the code of a script can answer are those of its header, each once."""
    loaded = script.load(name)
    code = COMMAND.sub("", reached(loaded.source))
    words = set(re.findall(r"'([A-Z][A-Z_]+)'", code)) - (OPTIONS - set(loaded.statuses))
    if name in WHATEVER_THE_HEAD:  # what `begin` says goes nowhere
        assert "refusal" not in code
        words -= {"DATA_LOST", "FENCED", "LATE"} - set(re.findall(r"reply\(scope, '(\w+)'", code))
    assert words == set(loaded.statuses)
    assert len(words) == len(loaded.statuses)


@pytest.mark.parametrize("name", NAMES)
def test_common_statuses_come_first(name: str) -> None:
    """Dataset and canary, then the fence, then lateness: before everything else."""
    first = () if name in WHATEVER_THE_HEAD else ("DATA_LOST", "FENCED", "LATE")
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


def _functions(source: str) -> dict[str, str]:
    found = re.findall(r"^(?:local )?function ([\w.]+)(\(.*?^end)$", _code(source), re.MULTILINE | re.DOTALL)
    return dict(found)


def _writing(source: str) -> re.Pattern[str]:
    """Return what finds a write: a command that does, or a call of a function that does, whoever it calls."""
    written = "|".join(WRITES)
    writing = [rf"redis\.call\('(?:{written})'"]
    functions = _functions(source)
    while more := [name for name, body in functions.items() if re.search("|".join(writing), body)]:
        for name in more:
            del functions[name]
            writing.append(rf"(?<![\w.]){re.escape(name)}\(")
    return re.compile("|".join(writing))


def _body(name: str) -> str:
    """Return what a script runs by itself, after the checks that come before all others."""
    text = re.sub(r"^local function .*?^end$", "", _code(_text(name)), flags=re.MULTILINE | re.DOTALL)
    return text[text.index("begin()") + len("begin()") :]


@pytest.mark.parametrize("name", NAMES)
def test_checks_come_before_the_first_write(name: str) -> None:
    """A script that writes commits first, or stores the clock; after that it refuses nothing as a whole.

    There is no rollback. What begins a scope or tells of lost data has no canary: it begins with `meta`.
    """
    body = _body(name)
    first = _writing(script.load(name).source).search(body)
    assert (first is None) == script.load(name).purpose.endswith("Changes nothing.")
    if first is None:
        assert not re.search(r"\b(?:commit|keep_clock|generations)\(", body)
        return
    firsts = ("commit(scope)", "keep_clock(scope)", "redis.call('HSET', KEYS[1]")
    assert body[first.start() :].startswith(firsts)
    after = body[first.start() :]
    assert "return reply(scope, refusal" not in after
    assert not {word for word in re.findall(r"return reply\(scope, '(\w+)'", after) if word in _REFUSALS}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_node_must_not_forget_is_counted(name: str) -> None:
    """Every script that writes counts up the caller's canary, but for those whose loss loses nothing."""
    writes = _writing(script.load(name).source).search(_body(name)) is not None
    assert ("commit(scope)" in _body(name)) == (writes and name not in UNCOUNTED)


@pytest.mark.parametrize("name", NAMES)
def test_who_looks_at_the_clock_and_writes_stores_it(name: str) -> None:
    """Else a later script could find an earlier time than was answered."""
    body = _body(name)
    if "now(scope)" in body and _writing(script.load(name).source).search(body):
        assert re.search(r"\b(?:keep_clock|generations)\(scope", body)


@pytest.fixture(scope="module")
def calls() -> dict[str, Call[Any]]:
    """Give one call of each script."""
    world = World(fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,))), "calls")
    n1 = world.node("n1")
    n1.register("c")
    return {call.script.name: call for call in every_call(n1, "c", "n2:1")}


@pytest.mark.parametrize("name", NAMES)
def test_python_passes_what_is_declared(name: str, calls: dict[str, Call[Any]]) -> None:
    """As many arguments as the header has, a whole number of groups, each of the type that it says."""
    declared = script.load(name).arguments
    fixed = [kind for position, _, kind, _ in declared if position != ".."][1:]
    group = [kind for position, _, kind, _ in declared if position == ".."]
    given = calls[name].args
    groups, rest = divmod(len(given) - len(fixed), len(group) or 1)
    assert groups == 0 or (group and groups > 0)
    assert rest == 0
    types = {"int": int, "str": str, "bytes": bytes}
    for value, kind in zip(given, fixed + group * groups, strict=True):
        assert isinstance(value, types[kind]), (value, kind)


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
        called = re.compile(rf"(?<![\w.])(?<!function ){re.escape(function)}\(")
        assert any(called.search(reached(script.load(other).source)) for other in NAMES), function


@pytest.mark.parametrize("name", [*NAMES, *INCLUDES])
def test_a_file_uses_what_it_includes(name: str) -> None:
    """Each include is of use to the very file that names it; or to all that name that, which ask it for an argument."""
    outer = script._OUTER.findall(_text(name))
    inner = set(script._INCLUDE.findall("\n".join(script._INNER.findall(_text(name)))))
    assert len(outer) == len(set(outer)), "each once"
    assert not inner & set(outer), "in a block only what is not there already"
    for include in _includes(name):
        found = re.findall(r"^local (?:function )?([\w, ]+)", _code(_text(include)), re.MULTILINE)
        names = "|".join(word for line in found for word in re.findall(r"\w+", line))
        users = [other for other in (*NAMES, *INCLUDES) if name in _includes(other)]
        used = [bool(re.search(rf"\b(?:{names})\b", _code(_text(one)))) for one in (name, *users)]
        assert used[0] or (users and all(used[1:])), f"{name} does not use {include}"


@pytest.mark.parametrize("name", [*NAMES, *INCLUDES])
def test_a_file_includes_what_it_uses(name: str) -> None:
    """By itself or through another include, never by the luck of who includes it and in which order."""
    seen: list[str] = []
    found: dict[str, None] = {}
    script._resolve(script.lua_directory(), _text(name), seen, found)
    script._filled(script.lua_directory(), _text(name), seen, found)
    code = re.sub(r"'[^'\n]*'", "", _code(_text(name)))
    own = set(re.findall(r"\b(?:local|function|for) (?:function )?([\w, ]+)", code))
    for include in set(INCLUDES) - {*found, name}:
        for function in re.findall(r"^(?:local )?function ([\w.]+)\(", _code(_text(include)), re.MULTILINE):
            called = re.search(rf"(?<![\w.]){re.escape(function)}\(", code)
            assert not called or function in own, f"{name} calls {function} of {include}"


def test_the_address_is_the_contents() -> None:
    """Two scripts of the same text have the same address, another text another."""
    assert len({script.load(name).sha for name in NAMES}) == len(NAMES)
