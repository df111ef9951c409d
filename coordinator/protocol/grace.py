"""Calls about the grace period: start, withdraw, end, advance, admit, complete, roster pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.protocol.call import Call, Head, Reply, call, check, nothing, text
from coordinator.values import ReclaimOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.errors import CoordinatorError


def start(  # noqa: PLR0913  (one argument per fact of the contract)
    key: bytes,
    head: Head,
    node: str,
    epoch: int,
    clients: Sequence[bytes],
    *,
    more: bool,
    if_empty: str,
    reason: bytes,
) -> Call[tuple[int, list[str]]]:
    """Open this node's roster (`epoch` 0), or bring up to 200 clients of it; the epoch, and a word per client."""

    def parse(reply: Reply) -> tuple[int, list[str]]:
        check(reply)
        return int(reply.data[0]), [text(word) for _, word in zip(clients, reply.data[1:], strict=True)]

    return call("grace_start", key, head, (node, epoch, int(more), if_empty, reason, *clients), parse)


def withdraw(key: bytes, head: Head, node: str) -> Call[int]:
    """Take back this node's roster; how many rights were on it."""

    def parse(reply: Reply) -> int:
        check(reply)
        return int(reply.data[0])

    return call("grace_withdraw", key, head, (node,), parse)


def end(key: bytes, head: Head, epoch: int, reason: bytes) -> Call[None]:
    """End the period now."""
    return call("grace_end", key, head, (epoch, reason, int(head.first > 0)), nothing)


def advance(key: bytes, head: Head, acked: int) -> Call[None]:
    """Tell the revision that was switched to, and move the period when its time has come."""
    return call("grace_advance", key, head, (acked,), nothing)


def admit(key: bytes, head: Head, client: bytes) -> Call[int]:
    """Ask whether a client may reclaim here now: the epoch admitted; a refusal is raised."""

    def parse(reply: Reply) -> int:
        check(reply)
        return reply.view.epoch

    return call("reclaim_admit", key, head, (client,), parse)


def complete(key: bytes, head: Head, clients: Sequence[bytes]) -> Call[list[ReclaimOutcome | CoordinatorError]]:
    """Tell that clients have all their locks back; an outcome or a refusal each. A repeat is a success."""

    def parse(reply: Reply) -> list[ReclaimOutcome | CoordinatorError]:
        check(reply)
        left, *words, waiting = reply.data
        view = reply.view
        # The script decides on a batch as one: of a client that is named again in it, the first one has completed.
        return [
            (None if word == b"ALREADY" else reply.refused(word, (waiting,)))
            or ReclaimOutcome(
                int(left), view.closing, lifted=False, repeated=word == b"ALREADY" or clients.index(client) < i
            )
            for i, (client, word) in enumerate(zip(clients, words, strict=True))
        ]

    return call("reclaim_complete", key, head, tuple(clients), parse)


Page = tuple[int, str, str]
"""Where a roster page stands: epoch (0: the present one), roster and cursor."""
FIRST_PAGE: Page = (0, "", "0")


def roster(key: bytes, head: Head, which: str, at: Page, count: int) -> Call[tuple[Page, list[bytes]]]:
    """Read a page of a roster: where the next one is (roster and cursor as in FIRST_PAGE: the end), and client ids."""
    epoch, owner, cursor = at

    def parse(reply: Reply) -> tuple[Page, list[bytes]]:
        check(reply)
        return (int(reply.data[0]), text(reply.data[1]), text(reply.data[2])), list(reply.data[3])

    return call("roster_page", key, head, (which, epoch, owner, cursor, count), parse)
