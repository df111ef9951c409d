"""What both faces are made of: one node, its keeper, the user's callbacks. No threads, no tasks, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator import errors
from coordinator._version import __version__
from coordinator.flows import Node
from coordinator.keeper import Keeper
from coordinator.metrics import LockMetrics
from coordinator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.calls.releases import Claim
    from coordinator.values import GracePeriod, Move, Release

_REGISTER_DEFAULTS = {"remote_addr": "", "ttl": 0.0, "verifier": None, "principal": None}
CLOSE_WAIT_SECONDS = 5.0
CLOSED = "this coordinator is not started or was closed: start() it, or make a new one"


class Face:
    """One node's share in the lock recovery of a scope."""

    def __init__(  # noqa: PLR0913  (the facts that make a node)
        self,
        node: str,
        scope: str,
        settings: Settings | None,
        metrics: LockMetrics | None,
        *,
        bootstrap: bool,
        predecessor_dead: bool,
    ) -> None:
        """Check the names; nothing is sent before `start`."""
        self._settings = settings or Settings()
        self._node = Node(
            node,
            scope,
            self._settings,
            metrics or LockMetrics.disabled(),
            bootstrap=bootstrap,
            predecessor_dead=predecessor_dead,
            version=__version__,
        )
        self._keeper = Keeper(self._node)
        self._release: Callable[[Release], Any] | None = None
        self._grace_end: Callable[[GracePeriod], Any] | None = None
        self._move: Callable[[Move], Any] | None = None
        self._node.wake = self._wake
        self._node.on_claims = self._begin_releases
        self._node.on_period = lambda period: self._callback(self._grace_end, period)
        self._node.on_move = lambda move: self._callback(self._move, move)

    @property
    def owner(self) -> str:
        """The owner token of this incarnation, `node:incarnation`."""
        return self._node.lease.owner

    @property
    def fenced(self) -> str | None:
        """Why this incarnation is fenced, or None."""
        return self._node.fenced

    def on_release(self, callback: Callable[[Release], object]) -> None:
        """Set what frees a client's locks: at least once, by one node at a time; raising means again later."""
        self._release = callback
        self._node.claims_releases = True
        self._node.must_renew = True
        self._wake()

    def on_grace_end(self, callback: Callable[[GracePeriod], object]) -> None:
        """Set what is called once per epoch when its period has ended."""
        self._grace_end = callback

    def on_move(self, callback: Callable[[Move], object]) -> None:
        """Set what is called when a client moved away (`registered`) or its old node died (`lost`)."""
        self._move = callback

    # -- what a face does in its own way ------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Have the keeper look at what there is to do."""
        raise NotImplementedError

    def _callback(self, function: Callable[[Any], object] | None, value: object) -> None:
        """Have a grace callback called, in order, away from the heartbeat."""
        raise NotImplementedError

    def _begin_releases(self, claims: list[Claim], asked: float) -> None:
        """Begin the release callbacks of claims that were asked for at a node time."""
        raise NotImplementedError


def only(results: list[Any]) -> Any:
    """Return the one result of a batch of one, or raise it."""
    (result,) = results
    if isinstance(result, errors.CoordinatorError):
        raise result
    return result


def registering(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of one registration of a batch; raise InvalidArgument naming what is missing or odd."""
    arguments = {**_REGISTER_DEFAULTS, **given}
    names = {"client", "adapter", *_REGISTER_DEFAULTS}
    if arguments.keys() != names:
        odd = ", ".join(sorted(arguments.keys() ^ names))
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
