"""What Coordinator and AsyncCoordinator share: one node, its keeper, the user's callbacks. No threads, no I/O."""

from __future__ import annotations

import inspect
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator import errors
from coordinator._version import __version__
from coordinator.metrics.families import LockMetrics
from coordinator.node import Node
from coordinator.node.keeper import Keeper
from coordinator.settings import Settings
from coordinator.values import GraceState, NodeView, Reason, client_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.protocol.releases import Claim
    from coordinator.values import Freed, GracePeriod, Move, Release

T = TypeVar("T")
_REGISTER_DEFAULTS = {"remote_addr": "", "ttl": 0.0, "verifier": None, "principal": None}
CLOSE_WAIT_SECONDS = 5.0
ASYNCHRONOUS = "nobody would await what it begins: give Coordinator plain functions, or use AsyncCoordinator"


class Shared:
    """One node's share in the lock recovery of a scope."""

    _awaits: bool
    """Whether callbacks may be coroutine functions."""

    def __init__(
        self,
        node: str,
        scope: str,
        settings: Settings | None,
        metrics: LockMetrics | None,
        *,
        predecessor_dead: bool,
    ) -> None:
        """Check the arguments; nothing is sent before `start`."""
        for name, value, kind in (
            ("settings", settings, Settings | None),
            ("metrics", metrics, LockMetrics | None),
            ("predecessor_dead", predecessor_dead, bool),
        ):
            if not isinstance(value, kind):
                msg = f"{name}={value!r:.60} must be of type {getattr(kind, '__name__', kind)}"
                raise errors.InvalidArgument(msg)
        self._settings = Settings() if settings is None else settings
        self._pid = 0
        """The process that started it, 0 before that."""
        self._node = Node(
            node,
            scope,
            self._settings,
            LockMetrics.disabled() if metrics is None else metrics,
            predecessor_dead=predecessor_dead,
            version=__version__,
        )
        self._keeper = Keeper(self._node)
        self._release: Callable[[Release], Any] | None = None
        self._grace_end: Callable[[GracePeriod], Any] | None = None
        self._move: Callable[[Move], Any] | None = None
        self._freed: Callable[[Freed], Any] | None = None
        self._ended: Callable[[str], Any] | None = None
        self._grace_start: Callable[[NodeView], Any] | None = None
        self._start_told = 0
        self._end_is_told = False
        self._telling = threading.Lock()
        self._node.wake = self._wake
        self._node.on_claims = self._begin_releases
        self._node.on_active = self._tell_the_start
        self._node.on_period = lambda period: self._callback(self._grace_end, period)
        self._node.on_move = lambda move: self._callback(self._move, move)
        self._node.on_freed = lambda freed: self._callback(self._freed, freed)
        self._node.on_ended = self._tell_the_end

    @property
    def owner(self) -> str:
        """The owner token of this incarnation, `node:incarnation`."""
        return self._node.lease.owner

    @property
    def view(self) -> NodeView:
        """What this node goes by at this moment: no round trip, no lock. `grace.view()` asks Redis."""
        now, lease = self._node.now(), self._node.lease
        view = lease.view
        return NodeView(
            owner=lease.owner,
            state=view.state,
            epoch=view.epoch,
            revision=view.revision,
            in_force=view.in_force,
            closing=view.closing,
            remaining_seconds=lease.grace_remaining(now),
            valid_for_seconds=lease.remaining(now),
            reason=None if lease.is_valid(now) else lease.why_not,
        )

    def on_release(self, callback: Callable[[Release], object]) -> None:
        """Set what frees a client's locks: at least once, by one node at a time; raising means again later."""
        self._release = self._checked("on_release", callback)
        self._node.claims_releases = True
        self._node.must_renew = True
        self._wake()

    def on_grace_start(self, callback: Callable[[NodeView], object]) -> None:
        """Set what is called once per epoch when this node has stopped granting new locks for its period.

        At once if one is active. A period that was over before this node heard of it is told by on_grace_end only.
        """
        self._grace_start = self._checked("on_grace_start", callback)
        self._tell_the_start()

    def _tell_the_start(self) -> None:
        """Have on_grace_start called, if somebody listens."""
        if self._grace_start is None:
            return
        with self._telling:
            view = self.view
            if view.state is GraceState.ACTIVE and view.epoch > self._start_told:
                self._start_told = view.epoch
                self._callback(self._grace_start, view)

    def on_grace_end(self, callback: Callable[[GracePeriod], object]) -> None:
        """Set what is called once per epoch when its period has ended."""
        self._grace_end = self._checked("on_grace_end", callback)

    def on_move(self, callback: Callable[[Move], object]) -> None:
        """Set what is called when a client of this node was taken by another one, with its locks."""
        self._move = self._checked("on_move", callback)

    def on_freed(self, callback: Callable[[Freed], object]) -> None:
        """Set what is called when another node has freed a client's locks: for lock tables that are kept in memory.

        At most once: a node that hears no events while 1,000 of them pass is not told of those.
        """
        self._freed = self._checked("on_freed", callback)

    def on_ended(self, callback: Callable[[str], object]) -> None:
        """Set what is called once when this incarnation is over: superseded, evicted or data_lost.

        What it granted is being reclaimed or freed elsewhere: drop all locks in memory, and start a new coordinator.
        """
        self._ended = self._checked("on_ended", callback)
        why = self._node.lease.why_not
        if self._node.lease.is_over and why is not Reason.CLOSED:
            self._tell_the_end(why.value)  # over before anybody listened

    def _checked(self, name: str, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a callback; refuse one that could not be called, or that would only begin."""
        if not callable(callback):
            msg = f"{name}({callback!r:.60}): a callback must be callable"
            raise errors.InvalidArgument(msg)
        if not self._awaits and any(map(inspect.iscoroutinefunction, (callback, type(callback).__call__))):
            msg = f"{name}({callback!r:.60}): {ASYNCHRONOUS}"
            raise errors.InvalidArgument(msg)
        return callback

    def _tell_the_end(self, reason: str) -> None:
        """Have on_ended called, if somebody listens: once, although the life may end while it is being set."""
        with self._telling:
            if self._ended is not None and not self._end_is_told:
                self._end_is_told = True
                self._callback(self._ended, reason)

    # -- its life -----------------------------------------------------------------------------------------------------

    @property
    def _is_a_copy(self) -> bool:
        """Whether this is a forked child's copy: the node, its threads and connections are the parent's."""
        return self._pid not in {0, os.getpid()}

    def _refuse_if_stopped(self) -> None:
        if self._is_stopped or self._is_a_copy:
            msg = "this coordinator was closed, or started in another process: make a new one"
            raise errors.Closed(msg)

    def _open(self) -> None:
        """Let the node act; checked after it, since it may be stopped at any moment."""
        self._pid = os.getpid()
        _started.add(self)
        self._node.closed = False
        self._refuse_if_stopped()

    def _withdraw(self) -> None:
        """End a start that failed: another may begin, in a child as well."""
        self._node.closed = True
        self._pid = 0
        _started.discard(self)

    def _shut(self) -> None:
        """Let the node act no more: its checks refuse, its calls raise Closed."""
        self._node.end(Reason.CLOSED)
        self._node.closed = True

    # -- what a face does in its own way ------------------------------------------------------------------------------

    @property
    def _is_stopped(self) -> bool:
        """Whether it was closed or abandoned."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Have the keeper look at what there is to do."""
        raise NotImplementedError

    def _callback(self, function: Callable[[Any], object] | None, value: object) -> None:
        """Have a grace callback called, in order, away from the heartbeat."""
        raise NotImplementedError

    def _begin_releases(self, claims: list[Claim], asked: float) -> None:
        """Begin the release callbacks of claims that were asked for at a node time."""
        raise NotImplementedError


_started: weakref.WeakSet[Shared] = weakref.WeakSet()
"""All that were started in this process."""


def _forked() -> None:
    """Close the copies that a forked child has, before any code of it runs."""
    for coordinator in list(_started):
        coordinator._node.forked()  # noqa: SLF001  (of this module's class)


os.register_at_fork(after_in_child=_forked)


def only(results: list[Any]) -> Any:
    """Return the one result of a batch of one, or raise it."""
    (result,) = results
    if isinstance(result, errors.CoordinatorError):
        raise result
    return result


def each(what: str, given: Iterable[T]) -> list[T]:
    """Return the items of a batch; refuse one text, whose letters would be taken for items, and what has none."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        msg = f"{what}={given!r:.60} must be several, in a list say, not {type(given).__name__}"
        raise errors.InvalidArgument(msg)
    return list(given)


def wait_or_skip(if_empty: str) -> None:
    """Refuse what says neither."""
    if if_empty not in ("wait", "skip"):
        msg = f"if_empty={if_empty!r:.60} must be 'wait' or 'skip'"
        raise errors.InvalidArgument(msg)


def each_client(what: str, given: Iterable[str | bytes]) -> list[bytes]:
    """Return the ids of a batch."""
    return [client_bytes(client) for client in each(what, given)]


def good_clients(what: str, given: Any) -> tuple[list[bytes], list[str | bytes]]:
    """Return the ids that a lock store has, each once, and those that break a rule."""
    good: dict[bytes, None] = {}
    bad: list[str | bytes] = []
    for client in each(what, given):
        try:
            good[client_bytes(client)] = None
        except errors.InvalidArgument:
            bad.append(client)
    return list(good), bad


def registering(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of one registration of a batch; raise InvalidArgument naming what is missing or odd."""
    if not isinstance(given, Mapping):
        msg = f"registration {given!r:.60} must be a mapping of register's arguments, not {type(given).__name__}"
        raise errors.InvalidArgument(msg)
    arguments = {**_REGISTER_DEFAULTS, **given}
    names = {"client", "adapter", *_REGISTER_DEFAULTS}
    if arguments.keys() != names:
        odd = ", ".join(sorted(str(name) for name in arguments.keys() ^ names))
        msg = f"a registration takes {', '.join(sorted(names))} (client and adapter always), but differs in: {odd}"
        raise errors.InvalidArgument(msg)
    return arguments


def number_or_0(what: str, number: int | None) -> int:
    """Return a generation or an epoch for the scripts, 0 for None; raise InvalidArgument when it is none."""
    if number is None:
        return 0
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number < 2**53:
        msg = f"{what}={number!r} must be a whole number from 1 to 2^53 - 1"
        raise errors.InvalidArgument(msg)
    return number
