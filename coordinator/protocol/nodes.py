"""Calls about nodes and the scope as a whole: initialize, join, renew, leave, evict, lost data, view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.protocol.call import Call, Head, Reply, View, call, check, nothing, text
from coordinator.settings import milliseconds

if TYPE_CHECKING:
    from coordinator.settings import Settings

SCHEMA = "3"
"""What the keys hold and mean. Data of another schema are refused by name."""


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
    wanted: dict[bytes, str]
    """Clients that this node is to close, and why: yield, revoke or gone."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member as scope_view tells of it."""

    owner: str
    lease_until_ms: int
    acked: int
    fenced: str


@dataclass(frozen=True, slots=True)
class ScopeView:
    """The whole picture: the common head, and the data of scope_view beyond it."""

    view: View
    clock_ms: int
    remaining: int
    reclaimed: int
    started_ms: int
    reason: str
    last: tuple[str, ...]
    """Summary of the last period: epoch, reason, started, duration, reclaimed, forfeited; empty strings if none."""
    waiting_for: tuple[str, ...]
    sample: tuple[str, ...]
    members: tuple[Member, ...]
    places: dict[str, int]
    due: int


def initialize(key: bytes, head: Head, dataset: str) -> Call[None]:
    """Mark a scope without data as a new installation."""
    return call("scope_init", key, head, (dataset, SCHEMA), nothing)


def join(  # noqa: PLR0913, PLR0917  (one argument per fact of the contract)
    key: bytes,
    head: Head,
    node: str,
    boot: str,
    fresh_dataset: str,
    settings: Settings,
    version: str,
    *,
    predecessor_dead: bool,
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
        int(predecessor_dead),
        version,
    )

    def parse(reply: Reply) -> Joined:
        check(reply)
        return Joined(int(reply.data[0]), int(reply.data[1]) > 0, text(reply.data[2]))

    return call("node_join", key, head, args, parse)


def renew(key: bytes, head: Head, acked: int) -> Call[Renewed]:
    """Extend the lease and tell the revision that was switched to."""
    return call("node_renew", key, head, (acked,), _renewed)


def _renewed(reply: Reply) -> Renewed:
    check(reply)
    extended, next_due, orphans, members, due, lapsed, waiting, wanted = reply.data
    return Renewed(
        int(extended) > 0,
        int(next_due),
        int(orphans) > 0,
        int(members),
        int(due),
        tuple(map(text, lapsed)),
        tuple(map(text, waiting)),
        dict(zip(wanted[::2], map(text, wanted[1::2]), strict=True)),
    )


def leave(key: bytes, head: Head) -> Call[None]:
    """Leave the scope: rights become a planned failover at once."""
    return call("node_leave", key, head, (), nothing)


def evict(key: bytes, head: Head, owner: str) -> Call[str]:
    """Turn a lapsed member into a lost owner; answers the status word, no refusal but the common ones."""

    def parse(reply: Reply) -> str:
        if reply.status not in {"UNKNOWN", "ALIVE", "LATER"}:
            check(reply)
        return reply.status

    return call("node_evict", key, head, (owner,), parse)


def lost(  # noqa: PLR0913, PLR0917  (one argument per fact of the contract)
    key: bytes, head: Head, dataset: str, clock_ms: int, newest: int, settings: Settings
) -> Call[str]:
    """Tell that the data are not those that were told; the status word: EMPTY, KNOWN or LOST.

    `clock_ms` and `newest` are the scope clock and the newest generation that the caller remembers.
    """
    args = (
        dataset,
        clock_ms,
        newest,
        milliseconds(settings.lease_seconds),
        milliseconds(settings.barrier_margin_seconds),
        milliseconds(settings.grace_seconds),
    )
    return call("scope_lost", key, head, args, lambda reply: reply.status)


def view(key: bytes, head: Head, adapters: tuple[str, ...]) -> Call[ScopeView]:
    """Read the whole picture."""

    def parse(reply: Reply) -> ScopeView:
        check(reply)
        remaining, reclaimed, started, reason, last, waiting, sample, members, places, due = reply.data
        return ScopeView(
            reply.view,
            reply.clock_ms,
            int(remaining),
            int(reclaimed),
            int(started),
            text(reason),
            tuple(map(text, last)),
            tuple(map(text, waiting)),
            tuple(map(text, sample)),
            tuple(Member(text(m[0]), int(float(m[1])), int(m[2]), text(m[3])) for m in members),
            {text(place[0]): int(place[1]) for place in places},
            int(due),
        )

    return call("scope_view", key, head, adapters, parse)
