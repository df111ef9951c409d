"""Runs flows. What an interruption means to a running flow stands here once, for both drivers.

`requests` wraps a flow: it yields the flow's requests one by one, and is sent what became of each. An interruption
(Ctrl-C, a cancellation, an error that nobody thought of) in a round trip leaves it unknown what became of the request.
So the flow learns that first, as of any lost reply. Then it meets the interruption, which is raised when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator import errors
from coordinator.node import Sleep
from coordinator.protocol import Call
from coordinator.wire.asynchronous import Answer

if TYPE_CHECKING:
    from coordinator.node import Flow

T = TypeVar("T")


def requests(flow: Flow[T]) -> Generator[Any, tuple[Any, BaseException | None, BaseException | None], T]:
    """Yield each request of a flow, be sent its (value, error, interruption); return or raise what the flow does."""
    interrupted: BaseException | None = None
    try:
        request = next(flow)
        while True:
            value, error, interruption = yield request
            if interruption is not None:
                interrupted = interruption
                if error is None:
                    is_call = isinstance(request, Call)
                    error = (
                        errors.OutcomeUnknown(f"given up while it was under way: {interruption!r}")
                        if is_call
                        else interruption
                    )
            request = flow.send(value) if error is None else flow.throw(error)
            while interrupted is not None:
                request = flow.throw(interrupted)  # nothing more is begun for it
    except (StopIteration, errors.CoordinatorError) as end:
        if interrupted is not None:
            raise interrupted from None
        if not isinstance(end, StopIteration):
            raise
        result: T = end.value
        return result


def drive(flow: Flow[T], run: Callable[[Any], Any], pause: Callable[[float], object]) -> T:
    """Run a flow to its end: round trips (and what else there is) by `run`, sleeps by `pause`."""
    running = requests(flow)
    try:
        request = next(running)
        while True:
            error: BaseException | None = None
            interruption: BaseException | None = None
            value = None
            try:
                value = pause(request.seconds) if type(request) is Sleep else run(request)
            except errors.CoordinatorError as caught:
                error = caught
            except BaseException as caught:  # noqa: BLE001  (raised at the end)
                interruption = caught
            request = running.send((value, error, interruption))
    except StopIteration as end:
        result: T = end.value
        return result


async def adrive(flow: Flow[T], step: Callable[[Any], Awaitable[Any]]) -> T:
    """Run a flow to its end; `step` returns what is awaited for one request: an Answer for a round trip.

    A cancelled call ends when its round trip is over, so no request of it is under way when its caller goes on.
    """
    running = requests(flow)
    try:
        request = next(running)
        while True:
            error: BaseException | None = None
            interruption: BaseException | None = None
            value = None
            waited = step(request)
            try:
                value = await waited
            except errors.CoordinatorError as caught:
                error = caught
            except asyncio.CancelledError as caught:
                interruption = caught
                if isinstance(waited, Answer) and waited.done() and isinstance(waited.exception(), errors.Unavailable):
                    error = waited.exception()  # certainly not executed
            except Exception as caught:  # noqa: BLE001  (raised at the end)
                interruption = caught
            request = running.send((value, error, interruption))
    except StopIteration as end:
        result: T = end.value
        return result
