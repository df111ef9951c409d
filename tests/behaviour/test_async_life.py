"""The tasks of the asyncio face: whatever ends it, nothing is left behind; callbacks do not hold up the heartbeat."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import AsyncCoordinator, Closed, CoordinatorError, Operation, Release, Settings, initialize
from coordinator.api import asynchronous as aio
from tests.bridge import asynchronous

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    import redis

BOUND = 20.0
_numbers = itertools.count(1)
CALLS = 1000


@pytest.fixture(autouse=True)
def _nothing_is_said(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """Let nothing be destroyed while it is pending, and no exception be lost."""
    yield
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
    assert [str(warning.message) for warning in recwarn] == []


@pytest.fixture
def make(product: redis.Redis, namespace: str) -> Callable[..., AsyncCoordinator]:
    """Make coordinators on either server, not started; they keep their lease over a stall of the machine."""
    initialize(product, namespace=namespace)

    def made(node: str = "n1", *, op_timeout_seconds: float = 0.4) -> AsyncCoordinator:
        settings = Settings(
            namespace=namespace,
            heartbeat_seconds=0.3,
            lease_seconds=12.0,
            validity_seconds=10.0,
            op_timeout_seconds=op_timeout_seconds,
            grace_seconds=1.0,
        )
        return AsyncCoordinator(asynchronous(product), node=node, settings=settings)

    return made


def run(main: Coroutine[Any, Any, Any]) -> None:
    """Run a whole loop; that it ends at all is bounded."""
    failures: list[BaseException] = []

    def whole() -> None:
        try:
            asyncio.run(main)
        except BaseException as error:  # noqa: BLE001  (raised below)
            failures.append(error)

    thread = threading.Thread(target=whole, daemon=True)
    thread.start()
    thread.join(2 * BOUND)
    assert not thread.is_alive(), "the loop does not end"
    for failure in failures:
        raise failure


def ours() -> set[str]:
    """Return the tasks that are not the test's; a fake server blocks in a task of its own."""
    names = {task.get_name() for task in asyncio.all_tasks() if "_async_blocking" not in repr(task)}
    return names - {asyncio.current_task().get_name()}  # type: ignore[union-attr]  # a test runs in a task


async def bounded(work: Any) -> Any:
    """Wait, but not for ever."""
    return await asyncio.wait_for(work, BOUND)


async def ticks(count: int = 10) -> None:
    """Let others have so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def disconnect(node: AsyncCoordinator, client: str = "c") -> None:
    """Have a release come due at once."""
    await node.clients.register(client, adapter="nfs")
    await node.clients.unregister(client)


async def a_period(node: AsyncCoordinator) -> None:
    """Have a period begin and end: a client is found in the lock store, and reclaims."""
    client = f"of a store {next(_numbers)}"
    await node.grace.start([client])
    await node.clients.register(client, adapter="nfs")
    async with node.reclaiming(client):
        pass


async def for_ever(*_: object) -> None:
    """Be a callback that does not end."""
    await asyncio.get_running_loop().create_future()


# -- many calls -------------------------------------------------------------------------------------------------------


def test_a_thousand_calls_at_once_are_all_answered(make: Callable[..., AsyncCoordinator]) -> None:
    """Each call gets its own reply, none came too late, a third of them is given up meanwhile."""
    node = make(op_timeout_seconds=1.0)
    statuses: set[str] = set()
    heard = node._node._observe

    def noted(reply: Any, call: Any) -> None:
        statuses.add(reply.status)
        heard(reply, call)

    node._node._observe = noted  # type: ignore[method-assign]

    async def main() -> None:
        async with node:
            names = [f"c{i}" for i in range(CALLS)]
            registered = await asyncio.gather(*(node.clients.register(name, adapter="nfs") for name in names))
            assert [registration.client_id for registration in registered] == names
            tasks = [asyncio.create_task(node.clients.get(name)) for name in names]
            await ticks(1)
            for task in tasks[::3]:
                task.cancel()
            seen = await asyncio.gather(*tasks, return_exceptions=True)
            for name, answer in zip(names, seen, strict=True):
                assert isinstance(answer, asyncio.CancelledError) or answer.client_id == name  # type: ignore[union-attr]
            assert any(isinstance(answer, asyncio.CancelledError) for answer in seen)
            await node.clients.unregister_many(names)

    run(main())
    assert statuses == {"OK", "VIEW"}, "none was LATE"


# -- the loop ends ----------------------------------------------------------------------------------------------------


# A fake server keeps callbacks into a loop that ended while it blocked.
@pytest.mark.parametrize("client", ["real"], indirect=True)
@pytest.mark.parametrize("doing", ["nothing", "a call", "a grant", "callbacks", "starting", "just started"])
def test_a_loop_ends_without_a_close(make: Callable[..., AsyncCoordinator], doing: str) -> None:
    """At once and in silence, whatever is under way: no task is destroyed, no connection left open."""
    node = make()
    tasks: list[asyncio.Task[Any]] = []

    async def grant(inside: asyncio.Event) -> None:
        async with node.granting("c"):
            inside.set()
            await for_ever()

    async def main() -> None:
        inside = asyncio.Event()
        if doing == "starting":
            tasks.append(asyncio.create_task(node.start()))
            await ticks()
            return
        await node.start()
        match doing:
            case "a call":
                tasks.append(asyncio.create_task(node.clients.get("c")))
                await ticks(3)
            case "a grant":
                await node.clients.register("c", adapter="nfs")
                tasks.append(asyncio.create_task(grant(inside)))
                await bounded(inside.wait())
            case "callbacks":

                async def callback(_: object) -> None:
                    inside.set()
                    await for_ever()

                node.on_release(callback)
                await disconnect(node)
                await bounded(inside.wait())
            case "nothing":
                await node.grace.view()
                await ticks()

    run(main())
    assert all(task.done() for task in tasks)


# -- abandon and close ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doing", ["nothing", "calls", "callbacks", "a heartbeat"])
@pytest.mark.parametrize("how", ["abandon", "close"])
def test_nothing_is_left_behind(
    make: Callable[..., AsyncCoordinator], monkeypatch: pytest.MonkeyPatch, how: str, doing: str
) -> None:
    """In the middle of anything: calls end, tasks are gone when it returns, and calls are refused from then on."""
    monkeypatch.setattr(aio, "CLOSE_WAIT_SECONDS", 0.1)  # a callback that does not end is waited for, then cancelled
    node = make()

    async def main() -> None:
        await node.start()
        calls: list[asyncio.Task[Any]] = []
        if doing == "calls":
            calls = [asyncio.create_task(node.clients.get(f"c{i}")) for i in range(300)]
            await ticks(5)
        elif doing == "callbacks":
            begun = asyncio.Event()

            async def callback(_: object) -> None:
                begun.set()
                if how == "abandon":
                    await for_ever()

            node.on_release(callback)
            node.on_grace_end(for_ever)
            await a_period(node)
            await disconnect(node)
            await bounded(begun.wait())
        elif doing == "a heartbeat":
            node._node.must_renew = True
            node._wake()
            await ticks(3)
        await bounded(getattr(node, how)())
        ended = await bounded(asyncio.gather(*calls, return_exceptions=True))
        assert all(answer is None or isinstance(answer, CoordinatorError) for answer in ended)
        assert ours() == set()
        with pytest.raises(Closed):
            await node.clients.get("c")
        with pytest.raises(Closed):
            await node.start()
        await node.close()

    run(main())


@pytest.mark.parametrize("turns", [1, 5, 20, 40])
def test_abandon_while_it_starts(make: Callable[..., AsyncCoordinator], turns: int) -> None:
    """The start is told that it was closed, wherever it was; unless it was done already."""
    node = make()

    async def main() -> None:
        starting = asyncio.create_task(node.start())
        await ticks(turns)
        await bounded(node.abandon())
        (answer,) = await bounded(asyncio.gather(starting, return_exceptions=True))
        assert isinstance(answer, Closed) or (answer is node and turns > 1), answer
        assert ours() == set()

    run(main())


@pytest.mark.parametrize("turns", [0, *range(1, 60, 6)])
@pytest.mark.parametrize("how", ["close", "abandon"])
def test_starts_that_are_closed_meanwhile(make: Callable[..., AsyncCoordinator], how: str, turns: int) -> None:
    """Several at once, stopped at any moment: each is told that it was closed, or had started; nothing is left."""
    node = make()

    async def main() -> None:
        starting = [asyncio.create_task(node.start()) for _ in range(2)]
        await ticks(turns)
        await bounded(getattr(node, how)())
        for answer in await bounded(asyncio.gather(*starting, return_exceptions=True)):
            assert answer is node or isinstance(answer, Closed), answer
        assert ours() == set()
        with pytest.raises(Closed):
            await node.clients.get("c")

    run(main())


def test_concurrent_starts_are_one(make: Callable[..., AsyncCoordinator]) -> None:
    """Both return the started node: a second join would fence the first one's incarnation."""
    node = make()

    async def main() -> None:
        assert await bounded(asyncio.gather(node.start(), node.start())) == [node, node]
        assert len([name for name in ours() if name.startswith("keeper")]) == 1
        await node.grace.view()
        assert not node._node.lease.is_over
        await node.close()
        assert ours() == set()

    run(main())


def test_a_copy_of_another_process_only_stops_itself(make: Callable[..., AsyncCoordinator]) -> None:
    """As a forked child sees it: closing ends no task and no connection of the parent, and tells Redis nothing."""
    node = make()

    async def main() -> None:
        await node.start()
        before = ours()
        node._pid += 1
        await node.close()
        assert not node.grace.check(Operation.NEW).allowed
        with pytest.raises(Closed):
            await node.clients.get("c")
        with pytest.raises(Closed):
            await node.start()
        assert ours() == before
        node._pid -= 1
        async with make("n2") as other:
            assert (await other.grace.view()).epoch == 0, "nobody has left"
        await node.abandon()

    run(main())


def test_a_start_that_is_cancelled_can_be_tried_again(make: Callable[..., AsyncCoordinator]) -> None:
    """Nothing is left of it, and the next one joins."""
    node = make()

    async def main() -> None:
        starting = asyncio.create_task(node.start())
        await ticks(1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bounded(starting)
        assert ours() == set()
        async with node:
            assert (await node.grace.view()).epoch == 0

    run(main())


def test_a_close_that_is_cancelled_stops_all_the_same(
    make: Callable[..., AsyncCoordinator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for a callback that does not end: the node stops as a crash would, it does not go on half closed."""
    monkeypatch.setattr(aio, "CLOSE_WAIT_SECONDS", 3 * BOUND)
    node = make()

    async def main() -> None:
        begun = asyncio.Event()

        async def callback(_: Release) -> None:
            begun.set()
            await for_ever()

        await node.start()
        node.on_release(callback)
        await disconnect(node)
        await bounded(begun.wait())
        closing = asyncio.create_task(node.close())
        await ticks()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bounded(closing)
        assert ours() == set()
        with pytest.raises(Closed):
            await node.clients.get("c")

    run(main())


# -- callbacks --------------------------------------------------------------------------------------------------------


def test_close_waits_for_a_grace_callback(make: Callable[..., AsyncCoordinator]) -> None:
    """The one that runs ends by itself, the next one too, before the node leaves; neither is cancelled."""
    node = make()
    order: list[object] = []

    async def main() -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def ended(period: Any) -> None:
            begun.set()
            try:
                await may_end.wait()
                order.append(period.epoch)
            except asyncio.CancelledError:
                order.append("cancelled")
                raise

        await node.start()
        node.on_grace_end(ended)
        await a_period(node)
        await bounded(begun.wait())
        await a_period(node)
        leave = node._node.leave
        node._node.leave = lambda until: order.append("leaves") or leave(until)  # type: ignore[func-returns-value,method-assign]
        closing = asyncio.create_task(node.close())
        await ticks()
        may_end.set()
        await bounded(closing)
        assert ours() == set()

    run(main())
    assert order == [1, 2, "leaves"]


@pytest.mark.parametrize("by", ["itself", "a task of its own"])
@pytest.mark.parametrize("callback", ["release", "grace end"])
def test_close_inside_a_callback_does_not_wait_for_it(
    make: Callable[..., AsyncCoordinator], monkeypatch: pytest.MonkeyPatch, callback: str, by: str
) -> None:
    """The node leaves from within its own callback, whose code goes on to its end; then nothing is left."""
    monkeypatch.setattr(aio, "CLOSE_WAIT_SECONDS", 3 * BOUND)
    node = make()

    async def main() -> None:
        closed = asyncio.Event()

        async def close(_: object) -> None:
            await (node.close() if by == "itself" else asyncio.create_task(node.close()))
            await ticks()
            closed.set()

        await node.start()
        if callback == "release":
            node.on_release(close)
            await disconnect(node)
        else:
            node.on_grace_end(close)
            await a_period(node)
        await bounded(closed.wait())
        await ticks()
        assert ours() == set()

    run(main())


def test_slow_callbacks_do_not_hold_up_the_heartbeat(make: Callable[..., AsyncCoordinator]) -> None:
    """With a release and a grace callback that do not end, the lease is renewed and more releases begin."""
    node = make()

    async def main() -> None:
        begun: asyncio.Queue[str] = asyncio.Queue()
        beats: asyncio.Queue[None] = asyncio.Queue()
        renewed = node._node.lease.renewed

        def beat(*arguments: Any, **more: Any) -> None:
            renewed(*arguments, **more)
            beats.put_nowait(None)

        async def slow(told: Any) -> None:
            begun.put_nowait(getattr(told, "client_id", "period"))
            await for_ever()

        async with node:
            node.on_release(slow)
            node.on_grace_end(slow)
            await a_period(node)
            await disconnect(node, "a")
            await disconnect(node, "b")
            assert {await bounded(begun.get()) for _ in range(3)} == {"period", "a", "b"}
            node._node.lease.renewed = beat  # type: ignore[method-assign]
            for _ in range(3):
                await bounded(beats.get())
            await node.abandon()

    run(main())


@pytest.mark.parametrize("failure", ["raises", "waits for what was cancelled"])
def test_a_callback_that_fails_is_called_again(
    make: Callable[..., AsyncCoordinator], failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A release is tried again until it succeeds; a grace callback that failed is not the last that is called."""
    node = make()

    async def fail() -> None:
        if failure == "raises":
            message = "the lock store is away"
            raise OSError(message)
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    async def main() -> None:
        called: asyncio.Queue[object] = asyncio.Queue()

        async def first_fails(told: Any) -> None:
            called.put_nowait(told)
            if called.qsize() == 1:
                await fail()

        periods: asyncio.Queue[int] = asyncio.Queue()

        async def fails(period: Any) -> None:
            periods.put_nowait(period.epoch)
            await fail()

        async with node:
            node.on_release(first_fails)
            node.on_grace_end(fails)
            await disconnect(node)
            for epoch in (1, 2):
                await a_period(node)
                assert await bounded(periods.get()) == epoch
            while called.qsize() < 2:  # noqa: ASYNC110  (bounded by run)
                await asyncio.sleep(0)

    run(main())
    assert "is tried again" in caplog.text
