"""docs/keyspace.md is what the sources say, and the sources say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.protocol import script
from coordinator.protocol.keys import DELETED_BY, PERMANENT, SCOPE_KEYS
from tools.keyspace import keys, page, removed_in

DOCS = Path(__file__).parents[2] / "docs"
BOUNDED = {"lost", "orphans"}
"""Sets that may be read whole: LOST_MAX of start_period bounds the one, the other takes its owners from it."""


def test_the_page_is_up_to_date() -> None:
    """The page says what the headers, the code and keys.py say: `./run docs` makes it so."""
    assert (DOCS / "keyspace.md").read_text(encoding="utf-8") == page(), "./run docs, and commit it"


def test_every_key_is_described_once_and_its_end_is_known() -> None:
    """The keys of scope.lua are the fixed ones and the derived ones; each is permanent or says what takes it away."""
    names = [name for name, *_ in keys()]
    assert names[: len(SCOPE_KEYS)] == list(SCOPE_KEYS)
    assert sorted(names) == sorted([*PERMANENT, *DELETED_BY])
    for name, _, pattern, _ in keys():
        assert pattern.split(":")[0] == name


def test_what_takes_each_key_away_is_what_the_code_does() -> None:
    """Each file that keys.py names removes entries of that key, and no other file does."""
    assert {name: files for name, files in removed_in().items() if name not in PERMANENT} == DELETED_BY


@pytest.mark.parametrize("name", script.names())
def test_no_set_of_clients_is_read_whole(name: str) -> None:
    """Only sets of owners are; scope_view alone joins rosters, and only while they are small (EXACT_MAX)."""
    code = re.sub(r"--.*", "", script.load(name).source)
    assert {key.removeprefix("key.") for key in re.findall(r"'SMEMBERS', ([^)]+)\)", code)} <= BOUNDED
    whole = re.findall(r"'(SUNION|SDIFF|SINTER|SINTERCARD|HGETALL|HKEYS|HVALS|SORT|SCAN|SUNIONSTORE|SDIFFSTORE)'", code)
    assert whole == (["SUNION", "SDIFF"] if name == "scope_view" else [])
    for key, last in re.findall(r"'ZRANGE', ([\w.]+), 0, (-?\d+)", code):
        assert key == "key.members" or last != "-1"
