"""The list of deliberate breaks fits the sources: `./run mutants` tries them, this keeps them possible."""

from __future__ import annotations

import pytest

from tools.docs import RECORD, record
from tools.mutants import ROOT, Break, breaks

BREAKS = breaks()
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.rule)
def test_a_break_can_be_made(broken: Break) -> None:
    """What it replaces stands in its file exactly once, and its test exists."""
    assert (ROOT / broken.file).read_text(encoding="utf-8").count(broken.old) == 1
    assert broken.test == "model" or f"def {broken.test}" in TESTS


def test_every_invariant_has_its_break() -> None:
    """Each invariant of protocol.md, section 9, is named, and each break once."""
    rules = [broken.rule for broken in BREAKS]
    assert len(set(rules)) == len(rules)
    for number in range(1, 12):
        assert any(rule.startswith(f"invariant {number}:") for rule in rules)


def test_the_track_record_lists_them() -> None:
    """`./run docs` makes it so."""
    text = RECORD.read_text(encoding="utf-8")
    assert BREAKS[-1].rule in text
    assert text == record(text), "./run docs, and commit it"
