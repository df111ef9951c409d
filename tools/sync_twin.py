"""Write coordinator/api/operations.py from coordinator/api/async_operations.py, so that no operation is written twice.

`./run docs` writes it; a contract test asks that it is what would be written.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "coordinator"
SOURCE, TWIN = PACKAGE / "api" / "async_operations.py", PACKAGE / "api" / "operations.py"

HEAD = '''"""`node.grace`, `node.clients` and `node.grants` of Coordinator.

Written by tools/sync_twin.py from async_operations.py: change that and run `./run docs`.
"""'''
RULES = (
    (r'^""".*?"""', HEAD),
    (r"\basyncio\b", "time"),
    (r"coordinator\.api\.asynchronous\b", "coordinator.api.blocking"),
    (r"\bAsync(Coordinator|Grace|Clients|Grants|Iterator)\b", r"\1"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
)  # fmt: skip


def synchronous(text: str) -> str:
    """Return the blocking twin of an asyncio module."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    for tool in (["ruff", "check", "--select", "I", "--fix"], ["ruff", "format"]):
        command = [*tool, "--quiet", "--stdin-filename", str(TWIN), "-"]
        text = subprocess.run(command, input=text, capture_output=True, check=True, text=True).stdout
    return text


if __name__ == "__main__":  # by itself: with an old twin the package may not even be importable
    TWIN.write_text(synchronous(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
