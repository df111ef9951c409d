"""Interruptions, starts and closes at odd moments, errors that nobody thought of: what is left behind, and for whom."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import signal
import threading
import warnings
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import redis

from coordinator import (
    Closed,
    Coordinator,
    CoordinatorError,
    GracePeriod,
    Operation,
    errors,
    initialize,
)
from coordinator.api import blocking as sync
from coordinator.api.driving import drive
from coordinator.protocol import Call
from tests import acl
from tests.held import Held
from tests.nodes import BOUND, clear, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordinator.node import Flow
    from tests.world import Player, World

T = TypeVar("T")
_numbers = itertools.count(1)
INTERRUPTIONS = [KeyboardInterrupt, SystemExit, ValueError]


def interrupted(player: Player, flow: Flow[T], error: type[BaseException]) -> Call[Any]:
    """Drive a flow whose first request is written to the socket, and interrupted before its reply; return that."""
    late: list[Call[Any]] = []

    def run(call: Call[Any]) -> Any:
        late.append(call)
        if len(late) > 1:
            return player.send(call)  # the repeat
        raise error

    with pytest.raises(error):
        drive(flow, run, lambda rest: player.world.jump(rest.seconds))  # type: ignore[union-attr]
    return late[0]


# -- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_31_an_interrupted_drop_cannot_take_a_later_hold(world: World, error: type[BaseException]) -> None:
    """Ctrl-C in the call: once the hold ran, the drop, still on its way, does nothing."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    drop = interrupted(n1, n1.node.uncount_lock(b"a"), error)
    n1.lock("a")
    assert world.run(drop).status == "LATE"
    assert world.redis.hexists(world.key("holders", n1.owner), "a")


@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_an_interrupted_call_has_ended_when_its_error_is_handled(world: World, error: type[BaseException]) -> None:
    """The handler of the interruption asks about the same client: nobody holds its turn any more."""
    n1 = world.node("n1")
    n1.register("a")

    def run(_: Call[Any]) -> Any:
        raise error

    try:
        drive(n1.node.count_lock(b"a"), run, lambda rest: world.jump(rest.seconds))  # type: ignore[union-attr]
    except error:
        assert not n1.node.registry._turns
        n1.run(n1.node.drop(b"a"))


def test_an_error_that_nobody_thought_of_ends_a_call_of_asyncio_in_the_same_way(world: World) -> None:
    """The step fails oddly: the error is raised, nobody's turn is kept, and a later request cancels what was sent."""
    player = world.node("n1")
    player.register("a")
    player.lock("a")

    async def scenario() -> None:
        held = Held(player)
        task = asyncio.create_task(held.face.clients.decrement_lock_count("a"))
        step = await held.next("client_drop")
        step.future.set_exception(RuntimeError("odd"))
        (await held.next("client_drop")).answer()
        with pytest.raises(RuntimeError, match="odd"):
            await asyncio.wait_for(task, BOUND)
        assert not player.node.registry._turns
        player.lock("a")
        assert step.execute().reply.status == "LATE"

    asyncio.run(scenario())
    assert world.redis.hexists(world.key("holders", player.owner), "a")


# -- waiting for the period -------------------------------------------------------------------------------------------


def test_13_waiting_for_reclaims_goes_by_the_lease(world: World) -> None:
    """What was last seen is no promise once the lease has lapsed, and of the past once the node is closed."""
    player = world.node("n1")
    player.start("a")
    world.settle()

    async def scenario() -> None:
        grace = Held(player).face.grace
        assert await grace.wait_in_force(0)
        world.time += 10
        assert not player.check(Operation.RECLAIM).allowed
        assert not await grace.wait_in_force(0)
        player.run(player.node.renew())
        assert await grace.wait_in_force(0)
        player.node.closed = True
        for wait in (grace.wait_in_force, grace.wait_normal):
            with pytest.raises(Closed):
                await wait(0)

    asyncio.run(scenario())


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(admin_url: str, real_url: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Coordinator]]:
    """Make coordinators, not started; when all are stopped, no thread and no connection of theirs is left."""
    _join(threads())  # nodes that an earlier test has abandoned listen until their blocking reads are over
    name = f"{acl.RUN}.{request.node.name}"[:60].replace("[", "-").replace("]", "")
    client = redis.Redis.from_url(real_url, protocol=2, client_name=name)
    initialize(client, namespace=name)
    made: list[Coordinator] = []

    def coordinator(node: str = "n1", **more: Any) -> Coordinator:
        made.append(Coordinator(client, node=node, settings=short(name, **more)))
        return made[-1]

    yield coordinator
    for each in made:
        each.abandon()
    _join(threads())
    assert threads() == []
    client.close()
    with redis.Redis.from_url(admin_url, protocol=2) as admin:
        ours = [each["id"] for each in admin.client_list() if each["name"] == name]
        for _ in range(1000):  # Redis takes note of a closed connection in a turn of its own
            if not ours:
                break
            ours = [each["id"] for each in admin.client_list() if each["name"] == name]
    assert ours == []
    clear(admin_url, name)


def a_period(node: Coordinator) -> None:
    """Have a period begin and end: a client is found in the lock store, and reclaims."""
    client = f"of a store {next(_numbers)}"
    node.grace.start([client])
    node.clients.register(client, adapter="nfs")
    with node.reclaiming(client):
        pass


def _join(those: list[threading.Thread]) -> None:
    for thread in those:
        thread.join(BOUND)


def threads(name: str = "") -> list[threading.Thread]:
    """Return the threads of coordinators whose names begin so."""
    kinds = ("keeper-", "events-", "callbacks-")
    return [thread for thread in threading.enumerate() if thread.name.startswith(name or kinds)]


def test_concurrent_starts_are_one(make: Callable[..., Coordinator]) -> None:
    """All return the started node: a second join would fence the first one's incarnation."""
    node = make()
    together = threading.Barrier(8)

    def start(_: int) -> Coordinator:
        together.wait(BOUND)
        return node.start()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(start, range(8))) == [node] * 8
    assert len(threads("keeper-")) == len(threads("events-")) == 1
    node.grace.view()
    assert not node._node.lease.is_over


@pytest.mark.parametrize("when", ["before it joins", "while it joins", "when it has joined"])
@pytest.mark.parametrize("how", ["close", "abandon"])
def test_a_start_that_is_stopped_meanwhile(make: Callable[..., Coordinator], how: str, when: str) -> None:
    """It ends with Closed, wherever it was, and begins no thread; a later one is refused as well."""
    node = make()
    join, stop = node._node.join, getattr(node, how)

    def joining() -> Flow[None]:
        if when == "before it joins":
            stop()
        flow = join()
        request = flow.send(None)
        if when == "while it joins":
            stop()
        while True:
            try:
                request = flow.send((yield request))
            except StopIteration:
                break
        if when == "when it has joined":
            stop()

    node._node.join = joining  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Closed):
            node.start()
        assert threads() == []
        assert not node.grace.check(Operation.NEW).allowed


def test_a_start_that_failed_can_be_tried_again(make: Callable[..., Coordinator]) -> None:
    """Ctrl-C, or an error that nobody thought of: nothing of it is left, the next one joins."""
    node = make()
    join = node._node.join
    for error in (KeyboardInterrupt, ValueError):

        def failing(error: type[BaseException] = error) -> Flow[None]:
            yield from join()
            raise error

        node._node.join = failing  # type: ignore[method-assign]
        with pytest.raises(error):
            node.start()
        assert threads() == []
    node._node.join = join  # type: ignore[method-assign]
    with node:
        assert node.grace.view().epoch == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("where", ["waiting for callbacks", "leaving"])
def test_a_close_that_is_interrupted_stops_all_the_same(
    make: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch, error: type[BaseException], where: str
) -> None:
    """Whatever ends it: the node does not go on half closed, renewing a lease under which it grants nothing."""
    node = make().start()

    def interrupt(*_: object, **__: object) -> Any:
        raise error

    if where == "leaving":
        node._node.leave = interrupt  # type: ignore[method-assign]
    else:
        monkeypatch.setattr(sync, "wait", interrupt)
    with pytest.raises(error):
        node.close()
    assert threads("keeper-") == []
    with pytest.raises(Closed):
        node.clients.get("a")


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_calls_that_are_closed_meanwhile_meet_errors_of_ours(make: Callable[..., Coordinator], how: str) -> None:
    """Their connections are closed under them, by another thread: no call raises what redis-py or a socket says."""
    node = make().start()
    met: list[BaseException] = []
    busy = threading.Semaphore(0)

    def work(i: int) -> None:
        while True:
            try:
                node.clients.register(f"c{i}", adapter="nfs")
                busy.release()
            except Closed:
                return
            except BaseException as error:  # noqa: BLE001  (looked at below)
                met.append(error)

    with ThreadPoolExecutor(8) as pool:
        for i in range(8):
            pool.submit(work, i)
        for _ in range(40):
            assert busy.acquire(timeout=BOUND)
        getattr(node, how)()
    assert [error for error in met if not isinstance(error, CoordinatorError)] == []


def test_a_forked_child_stops_only_itself(make: Callable[..., Coordinator]) -> None:
    """Its copy of the `with` block ends: the parent's node has not left, its threads and connections go on."""
    with make() as node:
        node.clients.register("a", adapter="nfs")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
            pid = os.fork()
        if pid == 0:
            signal.alarm(int(BOUND))
            code = 1
            try:
                node.close()
                code = int(node.grace.check(Operation.NEW).allowed)
                node.start()
            except Closed:
                pass
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        registration = node.clients.get("a")
        assert registration is not None
        assert registration.owner == node.owner
        assert not node._node.lease.is_over


# -- the keeper -------------------------------------------------------------------------------------------------------


def test_the_keeper_outlives_an_error_that_nobody_thought_of(
    make: Callable[..., Coordinator], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the lease is renewed all the same: one odd reply does not end a node."""
    node = make()
    beats: queue.Queue[int] = queue.Queue()
    renew, count = node._node.renew, 0

    def odd() -> Any:
        nonlocal count
        count += 1
        beats.put(count)
        if count == 2:
            message = "nobody thought of it"
            raise LookupError(message)
        return renew()

    node._node.renew = odd  # type: ignore[method-assign]
    with node:
        while beats.get(timeout=BOUND) < 4:
            pass
        assert node.grace.check(Operation.NEW).allowed
    assert "nobody thought of it" in caplog.text
    caplog.clear()


def test_the_keeper_of_asyncio_outlives_it_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The same in a task, which ends by itself when the node is superseded."""
    player = world.node("n1")

    async def scenario() -> None:
        face = Held(player).face
        rounds: list[None] = []

        def run() -> Any:
            rounds.append(None)
            if len(rounds) == 1:
                message = "nobody thought of it"
                raise LookupError(message)
            return
            yield

        face._keeper.run = run  # type: ignore[method-assign]
        await asyncio.wait_for(face._keep(face._channel), BOUND)  # type: ignore[arg-type]
        assert len(rounds) == 2

    asyncio.run(scenario())
    assert "nobody thought of it" in caplog.text
    caplog.clear()


# -- grace callbacks --------------------------------------------------------------------------------------------------


def test_close_waits_for_a_grace_callback(make: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that runs ends before the node leaves."""
    order: list[object] = []
    begun, may_end = threading.Event(), threading.Event()
    wait = futures.wait

    def waiting(running: Any, timeout: float) -> Any:
        assert wait(running, timeout=0).not_done, "a callback is under way"
        may_end.set()
        return wait(running, timeout=timeout)

    def ended(period: GracePeriod) -> None:
        begun.set()
        assert may_end.wait(BOUND)
        order.append(period.epoch)

    monkeypatch.setattr(sync, "wait", waiting)
    node = make().start()
    leave = node._node.leave
    node._node.leave = lambda until: order.append("leaves") or leave(until)  # type: ignore[func-returns-value,method-assign]
    node.on_grace_end(ended)
    a_period(node)
    assert begun.wait(BOUND)
    node.close()
    assert order == [1, "leaves"]


@pytest.mark.parametrize("at_once", [False, True], ids=["alone", "while another thread closes it"])
def test_close_inside_a_grace_callback_does_not_wait_for_itself(
    make: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch, *, at_once: bool
) -> None:
    """Nor does another close() wait for what will not be called any more."""
    monkeypatch.setattr(sync, "CLOSE_WAIT_SECONDS", 3 * BOUND)
    node = make().start()
    begun, closing, closed = threading.Event(), threading.Event(), threading.Event()
    wait = futures.wait

    def waiting(running: Any, timeout: float) -> Any:
        closing.set()
        return wait(running, timeout=timeout)

    def close(_: GracePeriod) -> None:
        begun.set()
        if at_once:
            assert closing.wait(BOUND)
        node.close()
        closed.set()

    monkeypatch.setattr(sync, "wait", waiting)
    node.on_grace_end(close)
    a_period(node)
    assert begun.wait(BOUND)
    if at_once:
        other = threading.Thread(target=node.close, daemon=True)
        other.start()
        other.join(BOUND)
        assert not other.is_alive()
    assert closed.wait(BOUND)


@pytest.mark.parametrize("error", [errors.Unavailable, SystemExit])
def test_a_grace_callback_that_raises_is_not_the_last_one(
    make: Callable[..., Coordinator], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, the next period's end is told as well."""
    ended: queue.Queue[int] = queue.Queue()

    def raising(period: GracePeriod) -> None:
        ended.put(period.epoch)
        raise error

    with make() as node:
        node.on_grace_end(raising)
        for epoch in (1, 2):
            a_period(node)
            assert ended.get(timeout=BOUND) == epoch
    assert "a grace callback of n1" in caplog.text
    caplog.clear()
