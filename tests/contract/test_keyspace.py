"""docs/keyspace.md is what the sources say, and the sources say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.protocol import script
from coordinator.protocol.keys import DELETED_BY, PERMANENT
from tools.keyspace import constant_fields, fields, fields_named, keys, page, removed_in, touched

DOCS = Path(__file__).parents[2] / "docs"
BOUNDED = {"lost", "open", "orphans"}
"""Sets that may be read whole: LOST_MAX of start_later bounds `lost`, `orphans` takes its owners from it, and `open`
has a roster per node."""


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
    """All of them by their patterns, those of its includes too, and no other; each once."""
    patterns = {key: pattern for key, _, pattern, _ in keys()}
    assert sorted(script.load(name).uses) == sorted(patterns[key] for key in touched(name))


@pytest.mark.parametrize("key", ["meta", "grace", "node", "client"])
def test_a_hash_has_the_fields_that_are_listed(key: str) -> None:
    """The fields that the scripts name are those of the list, each once; none is computed."""
    names = [name for name, _ in fields(key)]
    assert fields_named(key) == set(names)
    assert len(names) == len(set(names))


def test_every_list_of_fields_is_of_a_hash_that_has_such() -> None:
    """Other hashes have clients for fields."""
    assert {key for key, kind, *_ in keys() if kind == "hash" and fields(key)} == {"meta", "grace", "node", "client"}


def test_a_field_of_a_registration_is_one_letter_and_named_once() -> None:
    """The list in record.lua is its constants, at most 13, a byte each; no script spells such a field itself."""
    constants = constant_fields()
    assert sorted(constants.values()) == sorted(f"'{name}'" for name, _ in fields("client"))
    assert len(set(constants.values())) == len(constants) <= 13
    assert {len(name) for name, _ in fields("client")} == {1}
    for path in script.lua_directory().rglob("*.lua"):
        code = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        assert path.stem == "record" or not re.search(r"'[a-z]'", code), path.stem


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
