"""Scenario 46: a process forks with a started node. The child's copy is closed from the first moment on."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import Closed, Coordinator, Operation, Reason, StaleGrant
from tests.nodes import BOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordinator import Grant


async def done(answer: Any) -> Any:
    """Wait for an answer, if it has to be waited for."""
    return await answer if inspect.isawaitable(answer) else answer


async def found_wrong(node: Any, grant: Grant, lost: set[str]) -> str:
    """Look at the copy in the child; return what is wrong with it. Nothing here waits for anything but a lock."""
    for operation in (Operation.NEW, Operation.RECLAIM):
        if node.grace.check(operation).reason is not Reason.CLOSED:
            return "check"
    try:
        grant.confirm()
    except StaleGrant:
        grant.undo()
    else:
        return "confirm"
    for call in (lambda: node.clients.get("c"), lambda: node.clients.register("new", adapter="nfs"), node.start):
        try:
            await done(call())
        except Closed:
            continue
        return "calls"
    for name in ("close", "abandon", "close"):
        await done(getattr(node, name)())
    node.on_ended(lost.add)
    return "on_ended" if lost else ""


async def fork(node: Any, grant: Grant, locks: list[Any]) -> int:
    """Fork while some thread has these locks; return the child. Runs where the node's own code runs."""
    with contextlib.ExitStack() as held, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        for lock in locks:
            held.enter_context(lock)
        pid = os.fork()
        if pid == 0:
            signal.alarm(int(BOUND))
            wrong = "raised"
            try:
                wrong = await found_wrong(node, grant, set())
            finally:
                os._exit({"": 0, "check": 1, "confirm": 2, "calls": 3, "on_ended": 4}.get(wrong, 5))
    return pid


def run(node: Any, work: Any) -> Any:
    """Run a coroutine that never waits in this thread, or on the loop of a node of asyncio."""
    if hasattr(node, "_bridge"):
        return node._bridge.run(work)
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError


def locks_of(node: Coordinator) -> Iterator[Any]:
    """Iterate over all that a thread of the parent may hold at the moment of the fork."""
    core = node._node
    for part in (core, core.lease, core.registry):
        yield from (lock for lock in vars(part).values() if isinstance(lock, type(threading.Lock())))


@pytest.mark.parametrize("held", [False, True], ids=["", "while its threads hold locks"])
def test_46_a_forked_childs_copy_is_closed(make: Callable[..., Coordinator], *, held: bool) -> None:
    """Its check refuses, its grants are stale, its calls raise Closed, closing it returns; nothing waits for a lock.

    The parent goes on: it has not left, and its connections are its own.
    """
    node = make("n1")
    node.clients.register("c", adapter="nfs")
    grant = node.grants.begin("c")
    locks = list(locks_of(node))
    assert len(locks) == 3
    child = run(node, fork(getattr(node, "_target", node), grant, locks if held else []))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    grant.confirm()
    with node.granting("c"):
        pass
    registration = node.clients.get("c")
    assert registration is not None
    assert (registration.owner, registration.lock_count) == (node.owner, 2)
    assert node.grace.view().epoch == 0
