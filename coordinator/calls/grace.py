"""Calls about the grace period: start, end, advance, admit, complete, roster pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.calls.base import Call, Reply, call, check, nothing, text
from coordinator.values import ReclaimOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.errors import CoordinatorError
    from coordinator.keys import Keys
    from coordinator.lease import Head


def start(  # noqa: PLR0913  (one argument per fact of the contract)
    keys: Keys,
    head: Head,
    node: str,
    clients: Sequence[bytes],
    request: str,
    *,
    more: bool,
    if_empty: str,
    reason: bytes,
) -> Call[tuple[str, ...]]:
    """Bring up to 200 clients of this node's restored roster; the caller is tightened. A word per client."""

    def parse(reply: Reply) -> tuple[str, ...]:
        check(reply)
        return tuple(map(text, reply.data[1 : 1 + len(clients)]))  # none in the answer to a repeat

    return call("grace_start", keys, head, (node, int(more), if_empty, reason, 1, request, *clients), parse)


def end(keys: Keys, head: Head, epoch: int, reason: bytes, request: str) -> Call[None]:
    """End the period now; the caller is tightened."""
    return call("grace_end", keys, head, (epoch, reason, 1, request), nothing)


def advance(keys: Keys, head: Head, *, tight: bool) -> Call[None]:
    """Move the period when its time has come."""
    return call("grace_advance", keys, head, (int(tight),), nothing)


def admit(keys: Keys, head: Head, client: bytes) -> Call[tuple[str, int]]:
    """Ask whether a client may reclaim here now: the owner and the epoch admitted; a refusal is raised."""

    def parse(reply: Reply) -> tuple[str, int]:
        check(reply)
        return head.owner, reply.state.epoch

    return call("reclaim_admit", keys, head, (client,), parse)


def complete(
    keys: Keys, head: Head, clients: Sequence[bytes], *, idle: bool
) -> Call[list[ReclaimOutcome | CoordinatorError]]:
    """Tell that clients have all their locks back; an outcome or a refusal each. A repeat is a success."""

    def parse(reply: Reply) -> list[ReclaimOutcome | CoordinatorError]:
        check(reply)
        left, lifted = int(reply.data[0]), int(reply.data[1]) > 0
        return [
            (None if word == b"ALREADY" else reply.refused(word))
            or ReclaimOutcome(left, reply.state.closing, lifted, repeated=word == b"ALREADY")
            for _, word in zip(clients, reply.data[2:], strict=True)
        ]

    return call("reclaim_complete", keys, head, (int(idle), *clients), parse)


def roster(
    keys: Keys, head: Head, which: str, at: tuple[str, str], count: int
) -> Call[tuple[tuple[str, str], list[bytes]]]:
    """Read a page of the clients expected or reclaimed: where to go on (`("", "0")`: the end), and ids."""

    def parse(reply: Reply) -> tuple[tuple[str, str], list[bytes]]:
        check(reply)
        return (text(reply.data[0]), text(reply.data[1])), list(reply.data[2])

    return call("roster_page", keys, head, (which, *at, count), parse)
