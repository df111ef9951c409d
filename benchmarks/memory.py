"""How much memory of Redis a registered client with a right takes, of several lengths of its id."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from benchmarks.direct import Node, Scope
from benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 50_000
LENGTHS = (13, 14, 15, 16, 17, 18, 19, 20)
BYTES_MAX = 450


def measure() -> Iterator[Figure]:
    """Measure used_memory before and after so many clients of each length; the servers' allocators round up."""
    each = {f"id of {length} bytes": _bytes(length) for length in LENGTHS}
    mean = sum(each.values()) / len(each)
    yield Figure("memory of a registered holder, mean", mean, "bytes", BYTES_MAX, each)


def _bytes(length: int) -> float:
    with contextlib.ExitStack() as stack:
        scope = Scope(stack)
        node = Node(scope, "node-1")
        node.register_holders([b"%0*d" % (length, i) for i in range(100)])
        before = _used(scope)
        node.register_holders([b"%0*d" % (length, 1000 + i) for i in range(CLIENTS)])
        return (_used(scope) - before) / CLIENTS


def _used(scope: Scope) -> int:
    memory: Any = scope.redis.info("memory")
    return int(memory["used_memory"])
