"""What a round trip is: the call, the reply, and the one table from status words to errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from coordinator import errors
from coordinator.lease import Head, State
from coordinator.script import Script, load
from coordinator.values import GraceState

if TYPE_CHECKING:
    from coordinator.keys import Keys

T = TypeVar("T")
BATCH_MAX = 200
"""Items of a call at the most: the limit of the scripts."""
CHANGE_MAX = 50
"""Clients of a call that registers, disconnects or completes them, at 10 to 25 us each: 200 of them held Redis for more
than 5 ms on a busy machine (`./run bench failover`)."""
_HEAD_LENGTH = 11


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed reply: status word, common head, and the script's own data."""

    script: Script
    status: str
    state: State
    data: tuple[Any, ...]

    def refused(self, word: bytes, data: tuple[Any, ...] = ()) -> errors.CoordinatorError | None:
        """Return the error that the status of one item means; None when it is no refusal."""
        return refusal(_status(self.script, word), self.state, data)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One round trip, described."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[bytes | int | str, ...]
    head: Head
    parse: Callable[[Reply], T]
    """Raises the refusal that the status word means."""


def call(
    name: str, keys: Keys, head: Head, args: tuple[bytes | int | str, ...], parse: Callable[[Reply], T]
) -> Call[T]:
    """Build a call of the script `name`: the common head of arguments, then its own."""
    common = (
        head.owner, head.not_after_ms, head.dataset, head.writes, head.revision, head.epoch, head.serial, head.floor,
    )  # fmt: skip

    def parse_or_refuse(reply: Reply) -> T:
        try:
            return parse(reply)
        except (ValueError, TypeError, IndexError) as error:
            raise _foreign(name, reply.data) from error

    return Call(load(name), keys.slots(), common + args, head, parse_or_refuse)


def _foreign(name: str, raw: object) -> errors.ContractBroken:
    return errors.ContractBroken(f"{name}: reply {raw!r:.200} is none of this version's: script and library differ")


def text(value: bytes | int) -> str:
    """Return a field of a reply as text."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def read(script: Script, raw: object) -> Reply:
    """Parse a raw reply; raise ContractBroken when it is none of this script's."""
    if not isinstance(raw, list) or len(raw) < _HEAD_LENGTH:
        raise _foreign(script.name, raw)
    status = _status(script, raw[0])
    try:
        state = State(
            clock_ms=int(raw[1]),
            dataset=text(raw[2]),
            revision=int(raw[3]),
            epoch=int(raw[4]),
            state=GraceState(text(raw[5])),
            writes=int(raw[6]),
            in_force=int(raw[7]) > 0,
            closing=int(raw[8]) > 0,
            reclaim_until_ms=int(raw[9]),
            cap_ms=int(raw[10]),
        )
    except (ValueError, TypeError) as error:
        raise _foreign(script.name, raw) from error
    return Reply(script, status, state, tuple(raw[_HEAD_LENGTH:]))


def _status(script: Script, word: bytes) -> str:
    status = text(word)
    if status not in script.statuses:
        msg = f"{script.name}: status {status!r} is none of {', '.join(script.statuses)}"
        raise errors.ContractBroken(msg)
    return status


def refusal(  # noqa: C901, PLR0911, PLR0912  (a table, one line of it per status)
    status: str, state: State, data: tuple[Any, ...] = ()
) -> errors.CoordinatorError | None:
    """Return the error that a status word means; None when it is no refusal. The one table."""
    first = data[0] if data else 0
    match status:
        case "DATA_LOST":
            return errors.DataLost(
                "Redis does not hold the data this node was told (another dataset, or older): restore the data, "
                "or restart every node of the scope for a full grace period"
            )
        case "FENCED":
            return errors.Fenced(text(first))
        case "SCHEMA":
            return errors.ContractBroken(f"the scope has schema {text(first)!r}: run the version that wrote it")
        case "MOVED" | "UNKNOWN" | "ADAPTER" | "PRINCIPAL":
            return errors.RegistrationRefused(status.lower())
        case "LIMIT":
            return errors.ConnectionLimitReached(text(data[1]), int(first))
        case "RELEASING":
            return errors.ClientReleasing(int(first) / 1000)
        case "BARRIER":
            waiting = first if isinstance(first, list) else []
            return errors.BarrierPending(tuple(text(owner) for owner in waiting))
        case "LATER":
            return errors.BarrierPending(("the end of the present period",), int(first) / 1000)
        case "NO_GRACE" | "NOT_ACTIVE":
            return errors.NoGrace(status.lower())
        case "NOT_EXPECTED" | "ALREADY":
            return errors.ReclaimRefused(status.lower())
        case "STALE_EPOCH":
            return errors.StaleEpoch(state.epoch)
        case "LATE":
            return errors.Unavailable("the request came too late to be executed: try again")
        case _:
            return None


def check(reply: Reply) -> None:
    """Raise the refusal of the whole call, if its status is one."""
    error = refusal(reply.status, reply.state, reply.data)
    if error is not None:
        raise error


def nothing(reply: Reply) -> None:
    """Parse a reply that has no data of its own."""
    check(reply)
