"""How much of what a test repeats it does repeat: little by default, all of it with `--full`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Chosen:
    """What the options of this run say; tests/conftest.py puts it in before any test is imported."""

    full: bool = False
    simulate: int | None = None
    """How many random examples of the model; None: those that are the same each time."""


chosen = _Chosen()


def rounds(quick: int, full: int) -> int:
    """Return one of two figures: the second in the long version of the tests."""
    return full if chosen.full else quick
