"""docs/keyspace.md is what the sources say, and the sources say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.protocol import script
from coordinator.protocol.keys import DELETED_BY, PERMANENT
from tools.keyspace import fields, keys, page, removed_in, touched

DOCS = Path(__file__).parents[2] / "docs"
BOUNDED = {"lost", "open", "orphans"}
"""Sets that may be read whole: LOST_MAX of start_later bounds `lost`, `orphans` takes its owners from it, and `open` has a
roster per node."""


def test_the_page_is_up_to_date() -> None:
    """The page says what the headers, the code and keys.py say: `./run docs` makes it so."""
    assert (DOCS / "keyspace.md").read_text(encoding="utf-8") == page(), "./run docs, and commit it"


def test_every_key_is_described_once_and_its_end_is_known() -> None:
    """Each key of scope.lua is permanent or says what takes it away."""
    assert sorted(name for name, *_ in keys()) == sorted([*PERMANENT, *DELETED_BY])
    for name, _, pattern, _ in keys():
        assert pattern.split(":")[0] == name


@pytest.mark.parametrize("name", script.names())
def test_a_header_names_the_keys_that_its_script_touches(name: str) -> None:
    """All of them, those of its includes too, and no other."""
    assert sorted(script.load(name).uses) == sorted(touched(name))


def test_a_registration_has_the_fields_that_are_listed() -> None:
    """The list in record.lua is its constants, each is written and read; no script spells a field itself."""
    lua = {path.stem: re.sub(r"--.*", "", path.read_text()) for path in script.lua_directory().rglob("*.lua")}
    constants: dict[str, str] = {}
    for names, values in re.findall(r"^local ([\w, ]+) = (.+)$", lua.pop("record"), re.MULTILINE):
        constants |= zip(names.split(", "), re.findall(r"'(\w)'", values), strict=True)
    assert sorted(constants.values()) == sorted(name for name, _ in fields())
    assert len(constants) <= 13
    calls = re.findall(
        r"redis\.call\('(\w+)', (?:record|prefix \.\. 'client:' \.\. [\w.]+), ([^()]*)\)", "\n".join(lua.values())
    )
    of_clients = [(command, words) for command, words in calls if re.search(rf"\b(?:{'|'.join(constants)})\b", words)]
    for name in constants:
        commands = {command for command, words in of_clients if re.search(rf"\b{name}\b", words)}
        assert "HSET" in commands, name
        assert commands & {"HGET", "HMGET"}, name
    assert not [words for _, words in of_clients if re.match(r"'", words)]


def test_what_takes_each_key_away_is_what_the_code_does() -> None:
    """Each file that keys.py names removes entries of that key, and no other file does."""
    assert {name: files for name, files in removed_in().items() if name not in PERMANENT} == DELETED_BY


@pytest.mark.parametrize("name", script.names())
def test_no_set_of_clients_is_read_whole(name: str) -> None:
    """Only sets of owners are; scope_view alone reads who reclaimed, and only while they are few (EXACT_MAX)."""
    code = re.sub(r"--.*", "", script.load(name).source)
    read = set(re.findall(r"'SMEMBERS', prefix .. '(\w+)'", code))
    assert len(re.findall("'SMEMBERS'", code)) == len(re.findall(r"'SMEMBERS', prefix .. '(\w+)'", code))
    assert read <= (BOUNDED | {"reclaimed"} if name == "scope_view" else BOUNDED)
    assert not re.findall(
        r"'(SUNION|SDIFF|SINTER|SINTERCARD|HGETALL|HKEYS|HVALS|SORT|SCAN|SUNIONSTORE|SDIFFSTORE)'", code
    )
    for key, last in re.findall(r"'ZRANGE', ([^,]+), 0, (-?\d+)", code):
        assert key == "prefix .. 'members'" or last != "-1"
