"""What a round trip is: the call, its head, the reply, and the one table from status words to errors.

A request has one key (`meta`, which names the slot) and its first argument is the packed head. A reply begins with
status, view, scope clock and canary; what follows is the script's own. lua/include/begin.lua and lua/include/reply.lua
are the other side of this.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from coordinator import errors
from coordinator.protocol.script import Script, load
from coordinator.values import GraceState

T = TypeVar("T")
Word = bytes | int | str
"""One argument of a script."""

BATCH_MAX = 200
"""Items of a call at the most: the limit of the scripts."""
CHANGE_MAX = 50
"""Clients of a call that registers, disconnects or completes them: 200 would hold Redis for several ms."""
OPERATOR = "-"
"""The owner of a request that is no node's."""
_HEAD_LENGTH = 4


@dataclass(frozen=True, slots=True)
class View:
    """What every reply tells of the scope. Ordered by revision within one dataset."""

    raw: bytes
    """As Redis keeps it: two views are the same if and only if these bytes are."""
    dataset: str
    revision: int
    epoch: int
    state: GraceState
    in_force: bool
    closing: bool
    reclaim_until_ms: int
    cap_ms: int

    @property
    def deadline_ms(self) -> int:
        """When the period ends at the latest, as far as is known (its cap before it is in force); 0 when normal."""
        return (self.reclaim_until_ms or self.cap_ms) if self.state is GraceState.ACTIVE else 0

    @property
    def ended_epoch(self) -> int:
        """The newest epoch whose period is over."""
        return self.epoch - (self.state is GraceState.ACTIVE)


NOTHING = View(b"", "", -1, 0, GraceState.NORMAL, False, False, 0, 0)
"""The view of a node that has not joined yet; no scope has it."""


@functools.lru_cache(maxsize=256)
def view_of(raw: bytes) -> View:
    """Parse a view; raise ValueError when it is none. Cached: most replies carry the view of the reply before."""
    if not raw:
        return NOTHING
    dataset, revision, epoch, state, in_force, closing, reclaim_until, cap = raw.decode().split(" ")
    return View(
        raw,
        dataset,
        int(revision),
        int(epoch),
        GraceState(state),
        int(in_force) > 0,
        int(closing) > 0,
        int(reclaim_until),
        int(cap),
    )


class Head:
    """What every request carries, packed into one argument: who asks, and what the asker was told last."""

    __slots__ = ("first", "owner", "packed", "sent", "serial")

    def __init__(  # noqa: PLR0913, PLR0917  (the facts of the head)
        self, owner: str, sent: float, serial: int = 0, floor: int = 0, writes: int = 0, view: bytes = b""
    ) -> None:
        """Pack it. `sent` is the node time before the request goes out; it is not sent along.

        Requests count up in `serial`. `floor`: whatever this owner sent below this serial must do nothing any more,
        once this request was executed. `writes`: the canary as it was last told.
        """
        self.owner = owner
        self.sent = sent
        self.serial = serial
        self.first = 0
        """Serial of the first attempt of this very call, if that got no answer. Some scripts are told; not packed."""
        self.packed = b"%b %d %d %d %b" % (owner.encode(), serial, floor, writes, view)


class Reply:
    """A reply: status word, common head, and the script's own data, not parsed yet."""

    __slots__ = ("clock_ms", "data", "raw_view", "script", "status", "writes")

    def __init__(self, script: Script, raw: Any) -> None:
        """Raise ContractBroken when `raw` is no reply of this script."""
        if not isinstance(raw, list) or len(raw) < _HEAD_LENGTH:
            raise _foreign(script.name, raw)
        self.script = script
        self.status = _status(script, raw[0])
        self.raw_view: bytes = raw[1]
        self.clock_ms: int = raw[2]
        """The scope clock; 0: the script did not look at it."""
        self.writes: int = raw[3]
        self.data: list[Any] = raw[4:]
        if type(self.raw_view) is not bytes or type(self.clock_ms) is not int or type(self.writes) is not int:
            raise _foreign(script.name, raw)

    @property
    def view(self) -> View:
        """The scope as it was after this script; raises ContractBroken when it cannot be read."""
        try:
            return view_of(self.raw_view)
        except ValueError as error:
            raise _foreign(self.script.name, self.raw_view) from error

    def status_of(self, word: Any) -> str:
        """Return the status of one item; raise ContractBroken when the script has none of that name."""
        return _status(self.script, word)

    def refused(self, word: bytes, data: Sequence[Any] = ()) -> errors.CoordinatorError | None:
        """Return the error that the status of one item means; None when it is no refusal."""
        status = self.status_of(word)
        return refusal(status, self, data) if status in _REFUSALS else None


class Call(Generic[T]):
    """One round trip, described."""

    __slots__ = ("args", "head", "key", "parse", "script")

    def __init__(
        self, script: Script, key: bytes, head: Head, args: tuple[Word, ...], parse: Callable[[Reply], T]
    ) -> None:
        """Describe it; `parse` raises the refusal that the status word means."""
        self.script = script
        self.key = key
        self.head = head
        self.args = args
        self.parse = parse

    def result(self, reply: Reply) -> T:
        """Parse the reply; raise the refusal that it is, or ContractBroken when it is none of this script's."""
        try:
            return self.parse(reply)
        except (ValueError, TypeError, IndexError) as error:
            raise _foreign(self.script.name, reply.data) from error


def call(name: str, key: bytes, head: Head, args: tuple[Word, ...], parse: Callable[[Reply], T]) -> Call[T]:
    """Describe a call of the script `name` on the scope whose `meta` key is given."""
    return Call(load(name), key, head, args, parse)


def text(value: bytes | int) -> str:
    """Return a field of a reply as text."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _foreign(name: str, raw: object) -> errors.ContractBroken:
    return errors.ContractBroken(f"{name}: reply {raw!r:.200} is none of this version's: script and library differ")


def _status(script: Script, word: Any) -> str:
    status = script.words.get(word)
    if status is None:
        msg = f"{script.name}: status {word!r:.60} is none of {', '.join(script.statuses)}"
        raise errors.ContractBroken(msg)
    return status


def _waiting(data: Sequence[Any]) -> errors.BarrierPending:
    waiting = data[0] if data and isinstance(data[0], list) else []
    return errors.BarrierPending(tuple(text(owner) for owner in waiting))


_REFUSALS: dict[str, Callable[[Reply, Sequence[Any]], errors.CoordinatorError]] = {
    "DATA_LOST": lambda _, __: errors.Fenced("data_lost"),
    "FENCED": lambda _, data: errors.Fenced(text(data[0])),
    "SCHEMA": lambda _, data: errors.ContractBroken(
        f"the scope has schema {text(data[0])!r}, this version another: use the version that wrote it, or empty it"
    ),
    "EXISTS": lambda _, __: errors.ScopeExists(),
    "MOVED": lambda _, __: errors.RegistrationRefused("moved"),
    "UNKNOWN": lambda _, __: errors.RegistrationRefused("unknown"),
    "ADAPTER": lambda _, __: errors.RegistrationRefused("adapter"),
    "PRINCIPAL": lambda _, __: errors.RegistrationRefused("principal"),
    "LIMIT": lambda _, data: errors.ConnectionLimitReached(text(data[1]), int(data[0])),
    "RELEASING": lambda _, data: errors.ClientReleasing(int(data[0]) / 1000),
    "HELD": lambda _, data: errors.ClientHeld(text(data[1])),
    "GRACE": lambda reply, _: errors.GraceActive(errors.GRACE_RETRY_SECONDS, reply.view.epoch),
    "BARRIER": lambda _, data: _waiting(data),
    "LATER": lambda _, data: errors.BarrierPending(("the end of the present period",), int(data[0]) / 1000),
    "NO_GRACE": lambda _, __: errors.NoGrace("no_grace"),
    "NOT_ACTIVE": lambda _, __: errors.NoGrace("not_active"),
    "NOT_EXPECTED": lambda _, __: errors.ReclaimRefused("not_expected"),
    "ALREADY": lambda _, __: errors.ReclaimRefused("already"),
    "STALE_EPOCH": lambda reply, _: errors.StaleEpoch(reply.view.epoch),
    "LATE": lambda _, __: errors.Unavailable("a later request has cancelled this one: nothing was done, try again"),
}
"""The error that each status word means, made of the reply and the data that follow the word. The one table."""


def refusal(status: str, reply: Reply, data: Sequence[Any]) -> errors.CoordinatorError | None:
    """Return the error that a status word means; None when it is no refusal."""
    make = _REFUSALS.get(status)
    return make(reply, data) if make is not None else None


def check(reply: Reply) -> None:
    """Raise the refusal of the whole call, if its status is one."""
    make = _REFUSALS.get(reply.status)
    if make is not None:
        raise make(reply, reply.data)


def nothing(reply: Reply) -> None:
    """Parse a reply that has no data of its own."""
    check(reply)
