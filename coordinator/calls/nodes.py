"""Calls about members of the scope: join, renew, leave, evict, view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.calls.base import Call, Reply, call, check, nothing, text
from coordinator.settings import milliseconds

if TYPE_CHECKING:
    from coordinator.keys import Keys
    from coordinator.lease import Head
    from coordinator.settings import Settings

SCHEMA = "1"


@dataclass(frozen=True, slots=True)
class Joined:
    """A node's new incarnation."""

    incarnation: int
    fresh: bool
    """False: a repeat; how long the lease still runs is not known."""
    last_event: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a renewal told: times in ms of the scope clock, 0 for none."""

    extended: bool
    next_due_ms: int
    orphans: bool
    members: int
    due: int
    lapsed: tuple[str, ...]
    waiting_for: tuple[str, ...]
    closing: tuple[tuple[bytes, int], ...]
    """Clients whose entries here are to be closed, up to which generation."""


@dataclass(frozen=True, slots=True)
class ScopeView:
    """The data of scope_view beyond the common head."""

    remaining: int
    reclaimed: int
    started_ms: int
    reason: str
    last: tuple[str, ...]
    """Summary of the last period: epoch, reason, started, duration, reclaimed, forfeited; empty strings if none."""
    waiting_for: tuple[str, ...]
    sample: tuple[str, ...]
    members: tuple[tuple[str, int, int, str], ...]
    """Owner, lease deadline (ms), acked revision, fence."""
    places: dict[str, int]
    due: int


def join(  # noqa: PLR0913, PLR0917  (one argument per fact of the contract)
    keys: Keys,
    head: Head,
    node: str,
    boot: str,
    fresh_dataset: str,
    settings: Settings,
    version: str,
    *,
    bootstrap: bool,
    predecessor_dead: bool,
    after: int = 0,
) -> Call[Joined]:
    """Enter the scope with the next incarnation."""
    args = (
        node,
        boot,
        fresh_dataset,
        SCHEMA,
        milliseconds(settings.lease_seconds),
        milliseconds(settings.barrier_margin_seconds),
        milliseconds(settings.grace_seconds),
        milliseconds(settings.retention_seconds),
        int(bootstrap),
        int(predecessor_dead),
        version,
        after,
    )

    def parse(reply: Reply) -> Joined:
        check(reply)
        return Joined(int(reply.data[0]), int(reply.data[1]) > 0, text(reply.data[2]))

    return call("node_join", keys, head, args, parse)


def renew(keys: Keys, head: Head, acked: int) -> Call[Renewed]:
    """Extend the lease and tell the revision that was switched to."""

    def parse(reply: Reply) -> Renewed:
        check(reply)
        extended, next_due, orphans, members, due, lapsed, waiting, closing = reply.data
        return Renewed(
            int(extended) > 0,
            int(next_due),
            int(orphans) > 0,
            int(members),
            int(due),
            tuple(map(text, lapsed)),
            tuple(map(text, waiting)),
            tuple(zip(closing[::2], map(int, closing[1::2]), strict=True)),
        )

    return call("node_renew", keys, head, (acked,), parse)


def leave(keys: Keys, head: Head) -> Call[None]:
    """Leave the scope: holders become a planned failover at once."""
    return call("node_leave", keys, head, (), nothing)


def evict(keys: Keys, head: Head, owner: str, *, tight: bool) -> Call[str]:
    """Turn a lapsed member into a lost owner; answers the status word, no refusal but the common ones."""

    def parse(reply: Reply) -> str:
        if reply.status in {"UNKNOWN", "ALIVE", "LATER"}:
            return reply.status
        check(reply)
        return reply.status

    return call("node_evict", keys, head, (owner, int(tight)), parse)


def view(keys: Keys, head: Head, adapters: tuple[str, ...]) -> Call[ScopeView]:
    """Read the whole picture."""

    def parse(reply: Reply) -> ScopeView:
        check(reply)
        remaining, reclaimed, _, started, reason, last, waiting, sample, members, places, due = reply.data
        return ScopeView(
            int(remaining),
            int(reclaimed),
            int(started),
            text(reason),
            tuple(map(text, last)),
            tuple(map(text, waiting)),
            tuple(map(text, sample)),
            tuple((text(m[0]), int(float(m[1])), int(m[2]), text(m[3])) for m in members),
            {text(place[0]): int(place[1]) for place in places},
            int(due),
        )

    return call("scope_view", keys, head, adapters, parse)
