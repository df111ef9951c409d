"""Calls of the asyncio face, cancelled at every await: a driven scope, each round trip and sleep held by the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from coordinator import AsyncCoordinator, OutcomeUnknown
from tests.held import BOUND, Held, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.world import Player, World


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Expect the cancellation, and nothing but it."""
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, BOUND)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario; no task is left behind."""

    async def alone() -> None:
        await scenario
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(alone())


@pytest.fixture
def held(world: World) -> Iterator[Held]:
    """Give a node with clients a, b and c, the first two holders."""
    player = world.node("n1")
    for client in "abc":
        player.register(client, ttl=60)
    player.lock("a")
    player.lock("b")
    yield Held(player)
    assert not player.node.registry._turns, "a turn that nobody ends"
    assert not player.node.registry._grants, "a grant that nobody ends"


def holders(player: Player) -> set[bytes]:
    """Return whose rights Redis knows."""
    key = player.world.key("holders", player.owner)
    return set(cast("list[bytes]", player.world.redis.hkeys(key)))


async def granted(face: AsyncCoordinator, client: str = "c") -> None:
    """Grant a lock with nothing to insert."""
    async with face.granting(client):
        pass


async def reclaimed(face: AsyncCoordinator) -> None:
    """Reclaim with nothing to insert."""
    async with face.reclaiming("c"):
        pass


CALLS: dict[str, tuple[str, Callable[[AsyncCoordinator], Coroutine[Any, Any, Any]]]] = {
    "register": ("client_register", lambda face: face.clients.register("c", adapter="nfs", ttl=60)),
    "unregister": ("client_unregister", lambda face: face.clients.unregister("c")),
    "unregister_many": ("client_unregister", lambda face: face.clients.unregister_many(["a", "c"])),
    "revoke": ("client_revoke", lambda face: face.clients.revoke("c")),
    "granting": ("client_hold", granted),
    "increment": ("client_hold", lambda face: face.clients.increment_lock_count("c")),
    "decrement": ("client_drop", lambda face: face.clients.decrement_lock_count("a")),
    "reclaiming": ("reclaim_admit", reclaimed),
    "admit": ("reclaim_admit", lambda face: face.grace.admit_reclaim("c")),
    "complete": ("reclaim_complete", lambda face: face.grace.complete_reclaim("c")),
    "grace start": ("grace_start", lambda face: face.grace.start(["x"])),
    "touch": ("client_touch", lambda face: face.clients.touch("c")),
}
each_call = pytest.mark.parametrize("name", CALLS)


# -- when the cancellation arrives ------------------------------------------------------------------------------------


@each_call
@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "sent"])
def test_the_cancellation_arrives_with_the_answer(held: Held, name: str, sent: bool) -> None:  # noqa: FBT001
    """Cancelled before Redis runs the request, or after: the caller goes on when the answer is there, not before."""

    async def scenario() -> None:
        script, call = CALLS[name]
        task = asyncio.create_task(call(held.face))
        step = await held.next(script)
        if sent:
            step.execute()
        task.cancel()
        await settled()
        assert not task.done()
        step.answer()
        await cancelled(task)
        assert held.steps.empty(), "nothing more is sent for a caller that has gone"

    run(scenario())


@each_call
@pytest.mark.parametrize("when", ["not sent", "sent"])
def test_what_was_cancelled_does_nothing_once_a_later_request_ran(held: Held, name: str, when: str) -> None:
    """No answer came: one repeat cancels what is on its way, then the caller goes on; however often it was told."""

    async def scenario() -> None:
        script, call = CALLS[name]
        task = asyncio.create_task(call(held.face))
        step = await held.next(script)
        if when == "sent":
            step.execute()
        for _ in range(2):
            task.cancel()
            await settled()
            assert not task.done()
        step.lose()
        (await held.next(script)).answer()  # the repeat cancels it
        await cancelled(task)
        assert held.steps.empty()
        late = step.execute().reply.status
        assert late == "LATE"

    run(scenario())


@each_call
def test_whatever_was_cancelled_the_client_can_go_on(held: Held, name: str) -> None:
    """Executed, answered to nobody: later calls get their own replies, and rights are neither lost nor left over."""

    async def scenario() -> None:
        script, call = CALLS[name]
        task = asyncio.create_task(call(held.face))
        step = (await held.next(script)).execute()
        task.cancel()
        step.answer()
        await cancelled(task)
        held.player.world.jump(1)
        await held.all_answered(held.face.grace.view())  # asked later than the tightening was given up
        again = await held.all_answered(held.face.clients.register("c", adapter="nfs", ttl=60))
        assert (again.client_id, again.state) == ("c", "live")
        await held.all_answered(granted(held.face))
        assert b"c" in holders(held.player)
        await held.all_answered(held.face.clients.drop("c"))
        assert b"c" not in holders(held.player)
        assert (await held.all_answered(held.face.clients.unregister("c"))).client_id == "c"

    run(scenario())


@pytest.mark.parametrize("name", ["unregister", "unregister_many", "revoke"])
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "lost"])
def test_an_entry_that_was_closed_stays_closed(held: Held, name: str, answered: bool) -> None:  # noqa: FBT001
    """A cancelled call may have been executed: the client is served again only when it registers again."""

    async def scenario() -> None:
        script, call = CALLS[name]
        task = asyncio.create_task(call(held.face))
        step = await held.next(script)
        task.cancel()
        if answered:
            step.answer()
        else:
            step.lose()
            (await held.next(script)).answer()
        await cancelled(task)
        assert held.player.node.registry.get(b"c") is None

    run(scenario())


# -- rights: none is left for ever, none is dropped too early ---------------------------------------------------------


def test_a_grant_that_is_cancelled_in_its_block_is_counted_back(held: Held) -> None:
    """The right goes with its last lock; of two grants only the cancelled one is taken back."""

    async def scenario() -> None:
        face, player = held.face, held.player
        async with asyncio.timeout(BOUND):
            inside = [asyncio.Event(), asyncio.Event()]
            tasks = [asyncio.create_task(insert(face, event)) for event in inside]
            (await held.next("client_hold")).answer()
            await inside[0].wait()
            (await held.next("")).answer()  # the second waited for the first one's hold
            await inside[1].wait()
            tasks[0].cancel()
            await cancelled(tasks[0])
            assert held.steps.empty()
            assert b"c" in holders(player), "the other lock is still there"
            tasks[1].cancel()
            await cancelled(tasks[1])
        player.tick()  # the keeper takes out what is left over
        assert b"c" not in holders(player)

    run(scenario())


def test_a_first_lock_that_is_cancelled_leaves_no_right(held: Held) -> None:
    """Held, then cancelled: the client has no lock, the keeper is woken and takes the right out again."""

    async def scenario() -> None:
        task = asyncio.create_task(granted(held.face))
        step = await held.next("client_hold")
        task.cancel()
        step.answer()
        await cancelled(task)

    woken: list[bool] = []
    held.player.node.wake = lambda: woken.append(True)
    run(scenario())
    assert b"c" in holders(held.player)
    assert woken
    held.player.tick()
    assert holders(held.player) == {b"a", b"b"}


async def insert(face: AsyncCoordinator, inside: asyncio.Event) -> None:
    """Grant a lock whose insert takes for ever."""
    async with face.granting("c"):
        inside.set()
        await asyncio.get_running_loop().create_future()


def test_a_cancelled_drop_cannot_take_a_later_hold(held: Held) -> None:
    """The drop's connection broke: once the next hold of that client ran, the drop, still somewhere, is too late."""

    async def scenario() -> None:
        face, player = held.face, held.player
        drop = asyncio.create_task(face.clients.decrement_lock_count("a"))
        lost = await held.next("client_drop")
        drop.cancel()
        grant = asyncio.create_task(granted(face, "a"))
        waiting = await held.next("")  # for its turn
        lost.lose()
        (await held.next("client_drop")).answer()
        await cancelled(drop)
        waiting.answer()
        (await held.next("client_hold")).answer()
        await asyncio.wait_for(grant, BOUND)
        assert lost.execute().reply.status == "LATE"
        assert b"a" in holders(player)

    run(scenario())


@pytest.mark.parametrize("cancel", [True, False], ids=["cancelled", "lost"])
def test_a_right_that_was_perhaps_reclaimed_is_not_dropped_by_counting(held: Held, cancel: bool) -> None:  # noqa: FBT001
    """Completed, but nobody was told: the locks of before are not counted, so one lock more and less drops nothing."""
    player = held.player
    player.start("d")
    player.register("d", ttl=60)

    async def scenario() -> None:
        face = held.face
        task = asyncio.create_task(face.grace.complete_reclaim("d"))
        for _ in range(1 if cancel else 3):
            step = (await held.next("reclaim_complete")).execute()
            if cancel:
                task.cancel()
                step.answer()
            else:
                step.lose()
        with pytest.raises(asyncio.CancelledError if cancel else OutcomeUnknown):
            await asyncio.wait_for(task, BOUND)
        player.world.jump(1)
        await held.all_answered(face.grace.view())
        assert b"d" in holders(player)
        player.tick()
        await held.all_answered(granted(face, "d"))
        await held.all_answered(face.clients.decrement_lock_count("d"))
        assert b"d" in holders(player)
        assert (await held.all_answered(face.grace.complete_reclaim("d"))).repeated
        await held.all_answered(face.clients.drop("d"))
        assert b"d" not in holders(player)

    run(scenario())


# -- what cancels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["timeout", "wait_for"])
def test_time_limits_work_around_calls(held: Held, limit: str) -> None:
    """TimeoutError, once the request has ended; the task is not cancelled, its next call goes through."""

    async def touched() -> None:
        async with asyncio.timeout(0 if limit == "timeout" else None):
            await asyncio.wait_for(held.face.clients.touch("a"), None if limit == "timeout" else 0.001)

    async def limited() -> str:
        with pytest.raises(TimeoutError):
            await touched()
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        registration = await held.face.clients.get("a")
        assert registration is not None
        return registration.client_id

    async def scenario() -> None:
        ticks = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(limited())
        step = await held.next("client_touch")
        asyncio.get_running_loop().call_later(0.01, ticks.set_result, None)
        await ticks
        assert not task.done()
        step.answer()
        (await held.next("client_view")).answer()
        assert await asyncio.wait_for(task, BOUND) == "a"

    run(scenario())


def test_a_group_that_fails_ends_its_calls_properly(held: Held) -> None:
    """A sibling raises: the group ends when the call's request has, with the sibling's error."""

    async def scenario() -> None:
        async def grouped() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(held.face.clients.register("c", adapter="nfs"))
                await settled()
                message = "the store is away"
                raise OSError(message)

        task = asyncio.create_task(grouped())
        step = await held.next("client_register")
        await settled()
        assert not task.done()
        step.answer()
        with pytest.raises(BaseExceptionGroup) as caught:
            await asyncio.wait_for(task, BOUND)
        assert caught.group_contains(OSError)

    run(scenario())
