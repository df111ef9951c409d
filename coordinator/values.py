"""The frozen values users see and the id rules. No behaviour beyond their own consistency, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from coordinator import errors

CLIENT_ID_MAX_BYTES = 1024
TEXT_MAX_BYTES = 256
CLOSED = "this coordinator is not started or was closed: start() it, or make a new one"
NODE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class GraceState(str, Enum):
    """State of a scope."""

    NORMAL = "normal"
    ACTIVE = "active"


class Operation(str, Enum):
    """What a file server wants to do with a lock."""

    NEW = "new"
    RECLAIM = "reclaim"
    TEST = "test"


class Reason(str, Enum):
    """Why a check was refused. Those from `superseded` on are for good: this incarnation is over."""

    GRACE_ACTIVE = "grace_active"
    BARRIER_PENDING = "barrier_pending"
    JOINING = "joining"
    LEASE_LAPSED = "lease_lapsed"
    SUPERSEDED = "superseded"
    EVICTED = "evicted"
    DATA_LOST = "data_lost"
    CLOSED = "closed"


def client_bytes(client: str | bytes, what: str = "client id") -> bytes:
    """Return the id (or `what` it is) as bytes; refuse one that is empty, too long or of another type."""
    if isinstance(client, str):
        raw = _utf8(what, client)
    elif isinstance(client, bytes):
        raw = client
    else:
        msg = f"{what} {client!r:.60} must be str or bytes, not {type(client).__name__}"
        raise errors.InvalidArgument(msg)
    if not 1 <= len(raw) <= CLIENT_ID_MAX_BYTES:
        msg = f"{what} {client[:40]!r} has {len(raw)} bytes; it must have 1 to {CLIENT_ID_MAX_BYTES}"
        raise errors.InvalidArgument(msg)
    return raw


def at_least_0(what: str, value: float, most: float = float("inf")) -> float:
    """Return a duration or a count; refuse what is no number, NaN, negative or above `most`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        msg = f"{what}={value!r:.60} must be a number from 0 to {most}"
        raise errors.InvalidArgument(msg)
    return value


def text_bytes(what: str, text: str) -> bytes:
    """Return a text for people as bytes; refuse one that is too long or of another type."""
    if not isinstance(text, str) or len(raw := _utf8(what, text)) > TEXT_MAX_BYTES:
        msg = f"{what}={text!r:.60} must be a string of at most {TEXT_MAX_BYTES} bytes"
        raise errors.InvalidArgument(msg)
    return raw


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        msg = f"{what} {text[:40]!r} cannot be written as UTF-8: {error.reason}"
        raise errors.InvalidArgument(msg) from error


def client_str(client: bytes) -> str:
    """Return the id as users see it: UTF-8, other bytes escaped losslessly."""
    return client.decode("utf-8", "surrogateescape")


def node_name(node: str) -> str:
    """Return the node name; refuse one outside the alphabet."""
    if not isinstance(node, str) or not NODE_NAME.fullmatch(node):
        msg = f"node name {node!r} must match {NODE_NAME.pattern}"
        raise errors.InvalidArgument(msg)
    return node


@dataclass(frozen=True, slots=True)
class Verdict:
    """The local answer to "may this operation go on now?"; an allowed one is made beforehand, once per view.

    A reclaim that is allowed still has to be admitted (`admit_reclaim`); `provisional` on it says that no period is
    known here, on a test that its answer may change within the period.
    """

    allowed: bool
    reason: Reason | None
    retry_after: float
    epoch: int
    provisional: bool = False
    remaining_seconds: float = 0.0
    """Seconds to the end of the period at the latest, as far as is known; 0: not known."""

    def raise_for_refusal(self) -> None:
        """Raise GraceActive, BarrierPending, LeaseLapsed, Fenced or Closed if the answer is no."""
        if not self.allowed and self.reason is not None:
            raise refusal_of(self.reason, self.retry_after, self.epoch, self.remaining_seconds)


def refusal_of(
    reason: Reason, retry_after: float = 0.0, epoch: int = 0, remaining_seconds: float = 0.0
) -> errors.CoordinatorError:
    """Return the error that a reason means."""
    match reason:
        case Reason.GRACE_ACTIVE:
            return errors.GraceActive(retry_after, epoch, remaining_seconds)
        case Reason.BARRIER_PENDING:
            return errors.BarrierPending()
        case Reason.JOINING | Reason.CLOSED:
            return errors.Closed(CLOSED)
        case Reason.LEASE_LAPSED:
            return errors.LeaseLapsed("the lease was not renewed in time: ask again once Redis has answered a renewal")
        case _:
            return errors.Fenced(reason.value)


@dataclass(frozen=True, slots=True)
class GraceView:
    """The grace period of a scope as Redis had it at one moment."""

    state: GraceState
    epoch: int
    revision: int
    in_force: bool
    closing: bool
    remaining_seconds: float
    """Seconds to the deadline; before the period is in force, to its cap; 0 when normal."""
    expected_clients: int
    """All rights of this epoch, reclaimed included; exact up to 1,000 reclaimed, beyond that an upper bound."""
    reclaimed_clients: int
    waiting_for: tuple[str, ...]
    """Owners while a barrier is pending, otherwise at most 10 clients that have not reclaimed."""
    started_at: float
    """Scope clock, seconds."""
    reason: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """What this node goes by at this moment, from its memory."""

    owner: str
    """The owner token of this incarnation; empty before it has joined."""
    state: GraceState
    epoch: int
    revision: int
    """The newest revision that a reply has told."""
    in_force: bool
    """Reclaims are admitted, as far as this node knows."""
    closing: bool
    remaining_seconds: float
    """Seconds to the period's deadline; before it is in force, to its cap; 0 when normal."""
    valid_for_seconds: float
    """Seconds until new locks are refused unless the lease is renewed; 0: it has lapsed, or this life is over."""
    reason: Reason | None
    """Why no lock is granted at all: joining, lease_lapsed, superseded, evicted, data_lost, closed; None: it may be."""


@dataclass(frozen=True, slots=True)
class GracePeriod:
    """Summary of a period that ended."""

    epoch: int
    reason: str
    started_at: float
    duration_seconds: float
    expected: int
    reclaimed: int
    forfeited: int


@dataclass(frozen=True, slots=True)
class ReclaimOutcome:
    """What a completed reclaim led to."""

    remaining: int
    closing: bool
    lifted: bool
    repeated: bool = False
    """The client has its right here already: it had completed before, or never lost it."""


@dataclass(frozen=True, slots=True)
class ClientRegistration:
    """A client's presence in the scope."""

    client_id: str
    adapter: str
    ttl: float
    registered_at: float
    """Scope clock, seconds."""
    last_seen: float
    """Scope clock, seconds."""
    remote_addr: str
    lock_count: int | None
    """This node's count; None: not known (after a reclaim, or registered at another node)."""
    holder: bool
    owner: str
    generation: int
    state: str
    """live, yielded, deferred, revoked or leaving."""
    must_reclaim: bool = False
    """Its right is on the roster of a grace period: it must reclaim its locks before it locks anew."""


@dataclass(frozen=True, slots=True)
class Release:
    """Free everything that `client_id` has locked up to `generation`, whatever the owner; nothing newer."""

    client_id: str
    generation: int
    reason: str
    """disconnect, revoked, rebooted, forfeited or orphaned."""
    adapter: str
    """Empty if its registration is gone."""


@dataclass(frozen=True, slots=True)
class Move:
    """A client that was registered at this node is now registered at the owner `to`, with its locks."""

    client_id: str
    to: str
    """Empty if it is not known: it has left since."""


@dataclass(frozen=True, slots=True)
class Freed:
    """Another node has freed everything of `client_id` up to `generation`."""

    client_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class GraceStarted:
    """What a start of grace led to."""

    epoch: int | None
    """The period that was started or joined; None: there is nobody to wait for, nothing was started."""
    expected: int
    """Clients that may reclaim now."""
    live: int
    """Clients that are served by a member, or have reclaimed."""
    forfeited: int
    """Clients whose right has ended: their locks are being freed, or were freed."""
    bad: tuple[str | bytes, ...]
    """Ids that break a rule; they were left out."""


@dataclass(frozen=True, slots=True)
class Unregistered:
    """What became of a disconnect."""

    client_id: str
    generation: int
    due_in_seconds: float
