"""Runs the procedures of a node: a driver for threads, one for asyncio, and what an interruption means to both.

A procedure (a flow) is a generator that yields requests; a driver does them and gives back what became of each. The
good path is the shortest that there is: this is done for every operation.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator import errors
from coordinator.protocol import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coordinator.node.requests import Flow, Sleep, Wait
    from coordinator.protocol import Reply

T = TypeVar("T")


def interrupted(flow: Flow[Any], by: BaseException, unknown: errors.OutcomeUnknown | None = None) -> Flow[Any]:
    """Go on with a flow that was interrupted in a request; a driver runs this in its place. Raises `by` at the end.

    `by` is Ctrl-C, a cancellation, or an error that nobody thought of. `unknown` says that Redis may have executed the
    request. The flow learns that first, so that it can do what it does when a reply is lost. Its next request is still
    done, if that is a round trip; then the flow meets `by`. A later interruption takes the place of an earlier one.
    """
    told: BaseException = by if unknown is None else unknown
    while True:
        try:
            request = flow.throw(told)
        except (StopIteration, errors.CoordinatorError):
            raise by from None
        if not isinstance(request, Call):
            told = by  # nothing is to be awaited any more
            continue
        try:
            yield request
        except errors.OutcomeUnknown as again:
            told = again
        except errors.CoordinatorError:
            told = by
        except BaseException as newer:  # noqa: BLE001  (raised at the end)
            told = by = newer
        else:
            told = by


def drive(flow: Flow[T], run: Callable[[Call[Any]], Reply], rest: Callable[[Sleep | Wait], object]) -> T:
    """Run a flow to its end: round trips by `run`, sleeps and waits by `rest`; their errors go back into the flow.

    A round trip that is interrupted may have been executed, a sleep or wait just ends: see `interrupted`.
    """
    try:
        request = flow.send(None)
        while True:
            try:
                value = run(request) if isinstance(request, Call) else rest(request)
            except errors.CoordinatorError as error:
                request = flow.throw(error)
            except BaseException as by:  # noqa: BLE001  (raised when the flow has ended)
                flow = interrupted(flow, by, _unknown(by) if isinstance(request, Call) else None)
                request = flow.send(None)
            else:
                request = flow.send(value)
    except StopIteration as end:
        result: T = end.value
        return result


async def drive_async(
    flow: Flow[T],
    run: Callable[[Call[Any]], asyncio.Future[Reply]],
    rest: Callable[[Sleep | Wait], Awaitable[object]],
) -> T:
    """Run a flow to its end, as `drive` does, in a task.

    The futures of `run` must not be cancelled with the task that awaits them (as those of AsyncChannel). So a round
    trip that has begun is waited for, which its time-outs bound, and a cancelled task leaves no request under way. The
    task meets the cancellation when the answer is there. A sleep or wait ends at once.
    """
    future: asyncio.Future[Reply] | None
    try:
        request = flow.send(None)
        while True:
            future = None
            try:
                if isinstance(request, Call):
                    future = run(request)
                    value: object = await future
                else:
                    value = await rest(request)
            except errors.CoordinatorError as error:
                request = flow.throw(error)
            except GeneratorExit:
                raise  # the loop is gone with this task: nothing can be awaited any more
            except BaseException as by:  # noqa: BLE001  (raised when the flow has ended)
                flow = interrupted(flow, by, None if future is None else _outcome(future, by))
                request = flow.send(None)
            else:
                request = flow.send(value)
    except StopIteration as end:
        result: T = end.value
        return result


def _outcome(future: asyncio.Future[Reply], by: BaseException) -> errors.OutcomeUnknown | None:
    """Return the error of a round trip whose outcome is not known; None when Redis had answered before `by` was met."""
    if future.done() and not future.cancelled():
        error = future.exception()
        if isinstance(error, errors.OutcomeUnknown):
            return error
        if error is None or isinstance(error, errors.CoordinatorError):
            return None
    return _unknown(by)


def _unknown(by: BaseException) -> errors.OutcomeUnknown:
    return errors.OutcomeUnknown(f"given up while it was under way: {by!r}")
