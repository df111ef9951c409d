"""Writes anew all that is made of the sources; contract tests ask that it was."""

from __future__ import annotations

import re

from tools import keyspace, mutants

DOCS = mutants.ROOT / "docs"
RECORD = DOCS / "track-record.md"
_BETWEEN = re.compile(r"(<!-- breaks -->\n).*(\n<!-- /breaks -->)", re.DOTALL)


def record(text: str) -> str:
    """Return the track record with the present list of breaks."""
    return _BETWEEN.sub(lambda found: f"{found[1]}{mutants.table()}{found[2]}", text)


if __name__ == "__main__":
    (DOCS / "keyspace.md").write_text(keyspace.page(), encoding="utf-8")
    RECORD.write_text(record(RECORD.read_text(encoding="utf-8")), encoding="utf-8")
