"""Pipelines on a fake connection: whose reply is whose, what each failure means, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis

from coordinator.errors import Closed, ContractBroken, OutcomeUnknown, Unavailable
from coordinator.settings import Settings
from coordinator.wire.asynchronous import PIPELINE_MAX, AsyncChannel, AsyncEvents
from coordinator.wire.connector import KEPT_SECONDS
from coordinator.wire.meaning import MEANINGS
from tests.unit.async_wire_cases import HOLD, Connection, Pool
from tests.unit.wire_cases import (
    ADVANCED,
    AT_CONNECT,
    CALL,
    CUT,
    KEYS,
    LOST,
    MESSAGES,
    NOSCRIPT,
    SETTINGS,
    evalsha,
    hidden_readonly,
    parsed,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from coordinator.protocol import Reply
    from coordinator.wire.connector import Connector

BOUND = 20.0
REFUSED: list[BaseException] = [*LOST, parsed(MESSAGES["OOM"]), parsed(AT_CONNECT["LOADING"])]
EVALSHA = evalsha()


def replied(number: int) -> list[object]:
    """Return a reply that can be told from others, by its writes."""
    return [*ADVANCED[:3], number]


def told(answer: object) -> object:
    """Return what tells an outcome from others: the number of a reply, or the class of an error."""
    return answer.writes if hasattr(answer, "writes") else type(answer)


def run(
    use: Callable[[AsyncChannel], Coroutine[Any, Any, Any]],
    connection: Connection,
    failure: BaseException | None = None,
    settings: Settings = SETTINGS,
) -> Any:
    """Use a channel; afterwards its connection is back, its sender ended and the pool was closed."""
    pool = Pool(connection, failure)

    async def used() -> Any:
        channel = AsyncChannel(cast("Connector", pool), settings)
        try:
            return await asyncio.wait_for(use(channel), BOUND)
        finally:
            await channel.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    try:
        return asyncio.run(used())
    finally:
        assert pool.out == 0
        assert pool.disconnected


async def all_of(calls: Iterable[Awaitable[Reply]]) -> list[object]:
    """Return what became of each call."""
    return [told(answer) for answer in await asyncio.gather(*calls, return_exceptions=True)]


def outcomes(connection: Connection, calls: int, failure: BaseException | None = None) -> list[object]:
    """Return what becomes of so many calls of one tick."""
    return cast(
        "list[object]", run(lambda channel: all_of([channel.run(CALL) for _ in range(calls)]), connection, failure)
    )


# -- pipelines -------------------------------------------------------------------------------------------------------


def test_calls_of_one_tick_are_one_pipeline_and_replies_go_to_theirs() -> None:
    """Three calls, one send; each gets its own reply, in order."""
    connection = Connection(replied(1), replied(2), replied(3))
    assert outcomes(connection, 3) == [1, 2, 3]
    assert connection.sent == [EVALSHA * 3]
    assert connection.disconnected == 0


def test_calls_that_come_meanwhile_are_the_next_pipeline() -> None:
    """What is asked while a pipeline is under way goes out when it is answered, together."""
    connection = Connection(*map(replied, range(5)))

    async def use(channel: AsyncChannel) -> list[object]:
        first = [channel.run(CALL), channel.run(CALL)]
        await connection.busy.wait()
        return await all_of([*first, *(channel.run(CALL) for _ in range(3))])

    assert run(use, connection) == [0, 1, 2, 3, 4]
    assert connection.sent == [EVALSHA * 2, EVALSHA * 3]


def test_a_pipeline_has_a_greatest_length() -> None:
    """More calls than that are several pipelines on the same connection, in order."""
    connection = Connection(*map(replied, range(2 * PIPELINE_MAX + 1)))
    assert outcomes(connection, 2 * PIPELINE_MAX + 1) == list(range(2 * PIPELINE_MAX + 1))
    assert connection.sent == [EVALSHA * PIPELINE_MAX, EVALSHA * PIPELINE_MAX, EVALSHA]


def test_only_scripts_that_redis_does_not_know_are_sent_again() -> None:
    """NOSCRIPT of two of four is followed by one pipeline of two EVALs, whose replies go to those two."""
    connection = Connection(replied(0), parsed(NOSCRIPT), replied(2), parsed(NOSCRIPT), replied(1), replied(3))
    assert outcomes(connection, 4) == [0, 1, 2, 3]
    assert connection.sent == [EVALSHA * 4, whole() * 2]


def test_the_eval_is_not_repeated() -> None:
    """What the EVAL meets is its call's outcome: NOSCRIPT again, an error, no answer; the others keep their replies."""
    unknown = [parsed(NOSCRIPT)] * 3
    again = [parsed(NOSCRIPT), parsed(MESSAGES["OOM"]), redis.ConnectionError("reset")]
    connection = Connection(replied(0), *unknown, *again)
    assert outcomes(connection, 4) == [0, ContractBroken, Unavailable, OutcomeUnknown]
    assert len(connection.sent) == 2


# -- failures --------------------------------------------------------------------------------------------------------


def test_an_error_reply_does_not_touch_its_neighbours() -> None:
    """An error that Redis answers, or a reply of another version, is that one call's; the connection stays."""
    connection = Connection(
        replied(0), parsed(MESSAGES["OOM"]), replied(2), [b"nonsense"], parsed("ERR odd"), replied(5)
    )
    assert outcomes(connection, 6) == [0, Unavailable, 2, ContractBroken, ContractBroken, 5]
    assert connection.disconnected == 0


@pytest.mark.parametrize("failure", REFUSED, ids=lambda e: type(e).__name__)
def test_without_a_connection_nothing_was_executed(failure: BaseException) -> None:
    """A connection that cannot be had is Unavailable for all; nothing is sent."""
    connection = Connection()
    assert outcomes(connection, 3, failure) == [Unavailable] * 3
    assert connection.sent == []


@pytest.mark.parametrize("failure", LOST, ids=lambda e: type(e).__name__)
def test_a_lost_connection_keeps_the_answers_that_came(failure: BaseException) -> None:
    """Lost while reading: answered calls keep their replies, the others may have run; lost while sending: all may."""
    connection = Connection(replied(0), replied(1), failure)
    assert outcomes(connection, 4) == [0, 1, OutcomeUnknown, OutcomeUnknown]
    assert connection.disconnected == 1
    connection = Connection(on_send=failure)
    assert outcomes(connection, 2) == [OutcomeUnknown] * 2
    assert (connection.disconnected, len(connection.sent)) == (1, 1)


@pytest.mark.parametrize(("code", "message"), AT_CONNECT.items())
def test_an_error_of_the_session_is_certain_for_one_call_only(code: str, message: str) -> None:
    """Redis refused one call and redis-py cut the connection: those behind it may have run, after the loading say."""
    connection = Connection(replied(0), parsed(message))

    async def use(channel: AsyncChannel) -> list[Any]:
        return await asyncio.gather(*(channel.run(CALL) for _ in range(3)), return_exceptions=True)

    first, refused, behind = run(use, connection)
    assert [told(first), told(refused), told(behind)] == [0, Unavailable, OutcomeUnknown]
    assert MEANINGS[code].advice in str(refused)
    assert connection.disconnected == 1


def test_a_silent_connection_is_given_up_after_op_timeout() -> None:
    """The whole pipeline has op_timeout: answered calls keep their replies, the connection is cut."""
    connection = Connection(replied(0), HOLD)
    soon = Settings(op_timeout_seconds=0.01)
    assert run(lambda channel: all_of([channel.run(CALL) for _ in range(3)]), connection, settings=soon) == [
        0, OutcomeUnknown, OutcomeUnknown,
    ]  # fmt: skip
    assert connection.disconnected == 1


def test_what_waits_for_a_silent_redis_is_told_so_at_once() -> None:
    """It was not sent; else each pipeline would wait as long as the one before it."""
    connection = Connection(HOLD)
    soon = Settings(op_timeout_seconds=0.01)
    told_of = run(
        lambda channel: all_of([channel.run(CALL) for _ in range(PIPELINE_MAX + 2)]), connection, settings=soon
    )
    assert told_of == [OutcomeUnknown] * PIPELINE_MAX + [Unavailable] * 2
    assert len(connection.sent) == 1


def test_what_waits_for_a_connection_is_told_at_once_that_there_is_none() -> None:
    """One attempt to connect tells all, however many pipelines they would be, each with an error of its own."""
    pool = Pool(Connection(), redis.ConnectionError("refused"))

    async def use() -> list[Any]:
        channel = AsyncChannel(cast("Connector", pool), SETTINGS)
        calls = [channel.run(CALL) for _ in range(2 * PIPELINE_MAX)]
        told_of = await asyncio.gather(*calls, return_exceptions=True)
        await channel.close()
        return told_of

    told_of = asyncio.run(use())
    assert [type(error) for error in told_of] == [Unavailable] * 2 * PIPELINE_MAX
    assert len(set(map(id, told_of))) == len(told_of)
    assert pool.taken == 1


@pytest.mark.parametrize(("code", "message"), MESSAGES.items())
def test_no_connection_stays_with_a_server_that_is_not_the_primary(code: str, message: str) -> None:
    """All replies of the pipeline are read, then it is cut: the next one may lead elsewhere."""
    connection = Connection(replied(0), parsed(message), replied(2), parsed(MESSAGES["OOM"]))
    assert outcomes(connection, 4) == [0, Unavailable, 2, Unavailable]
    assert connection.disconnected == (code in CUT)


def test_a_replica_that_sentinel_hides_executed_nothing() -> None:
    """redis-py's Sentinel client makes READONLY an error of the connection, and cuts it: those behind may have run."""
    connection = Connection(hidden_readonly())
    assert outcomes(connection, 2) == [Unavailable, OutcomeUnknown]
    assert connection.disconnected == 1


def test_a_connection_that_redis_has_closed_is_replaced_before_anything_is_sent() -> None:
    """Redis was restarted between two calls: the second is no unknown outcome, whether it can connect or not."""
    pool = Pool(Connection(replied(0), replied(1)))

    async def use() -> None:
        channel = AsyncChannel(cast("Connector", pool), SETTINGS)
        assert await all_of([channel.run(CALL)]) == [0]
        pool.connection.ended = True
        assert await all_of([channel.run(CALL)]) == [1]
        assert pool.taken == 2
        pool.connection.ended, pool.failure = True, redis.ConnectionError("refused")
        assert await all_of([channel.run(CALL)]) == [Unavailable]
        assert (len(pool.connection.sent), pool.out) == (2, 0)
        await channel.close()

    asyncio.run(use())


def test_a_connection_is_kept_and_passes_through_its_pool_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool renews credentials that run out, so it sees the connection again after a moment."""
    now = 100.0
    monkeypatch.setattr("coordinator.wire.asynchronous.monotonic", lambda: now)
    pool = Pool(Connection(*map(replied, range(4))))

    async def use() -> None:
        nonlocal now
        channel = AsyncChannel(cast("Connector", pool), SETTINGS)
        for number in range(3):
            assert await all_of([channel.run(CALL)]) == [number]
        assert (pool.taken, pool.out) == (1, 1)
        now += 1.01 * KEPT_SECONDS
        assert await all_of([channel.run(CALL)]) == [3]
        assert (pool.taken, pool.out) == (2, 1)
        await channel.close()
        assert pool.out == 0

    asyncio.run(use())


def test_the_next_call_after_a_failure_gets_a_reply_of_its_own() -> None:
    """A cut connection is no end: the channel goes on."""
    connection = Connection(redis.ConnectionError("reset"), replied(7))

    async def use(channel: AsyncChannel) -> list[object]:
        return await all_of([channel.run(CALL)]) + await all_of([channel.run(CALL)])

    assert run(use, connection) == [OutcomeUnknown, 7]


# -- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["queued", "sent"])
def test_a_cancelled_task_goes_on_when_its_reply_is_there(when: str) -> None:
    """Not before: so none of its requests is under way when it ends. Its reply is read; the neighbours get theirs."""
    connection, gate = Connection(), asyncio.Event()
    connection.answers = [gate, replied(0), replied(1), replied(2)]

    async def use(channel: AsyncChannel) -> list[object]:
        async def caller() -> Reply:
            return await channel.run(CALL)

        tasks = [asyncio.create_task(caller()) for _ in range(3)]
        await (asyncio.sleep(0) if when == "queued" else connection.busy.wait())
        tasks[1].cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not tasks[1].done()
        assert connection.busy.is_set()
        gate.set()
        return await all_of(tasks)

    assert run(use, connection) == [0, asyncio.CancelledError, 2]
    assert connection.answers == []


def test_a_call_cannot_be_taken_back() -> None:
    """Whoever cancels the future gets its reply."""

    async def use(channel: AsyncChannel) -> list[object]:
        call = channel.run(CALL)
        assert not call.cancel()
        return await all_of([call])

    assert run(use, Connection(replied(5))) == [5]


@pytest.mark.parametrize("when", ["before it ran", "while it reads"])
def test_nobody_waits_for_ever_for_a_sender_that_was_cancelled(when: str) -> None:
    """What was sent is unknown, what was not is Unavailable; the connection is cut; the next call starts anew."""
    was_sent = when == "while it reads"
    connection = Connection(*[HOLD] * was_sent, replied(9))

    async def use(channel: AsyncChannel) -> list[object]:
        calls = [channel.run(CALL) for _ in range(PIPELINE_MAX + 1)]
        if was_sent:
            await connection.held.wait()
        assert channel._sender is not None
        channel._sender.cancel()
        first = OutcomeUnknown if was_sent else Unavailable
        assert await all_of(calls) == [first] * PIPELINE_MAX + [Unavailable]
        return await all_of([channel.run(CALL)])

    assert run(use, connection) == [9]
    assert connection.disconnected == was_sent


def test_nobody_waits_for_ever_for_a_sender_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of, while sending or while parsing: every call ends, as unknown."""
    assert outcomes(Connection(on_send=RuntimeError("odd")), 2) == [OutcomeUnknown] * 2

    def odd(*_: object) -> None:
        message = "odd"
        raise RuntimeError(message)

    monkeypatch.setattr("coordinator.wire.asynchronous.Reply", odd)
    assert outcomes(Connection(replied(0), replied(1)), 2) == [OutcomeUnknown] * 2


def test_a_closed_channel_sends_nothing_any_more() -> None:
    """Closing gives up what was sent, waits for the sender to end, and refuses what waits and what comes later."""
    connection = Connection(HOLD)

    async def use(channel: AsyncChannel) -> list[object]:
        sent = channel.run(CALL)
        await connection.held.wait()
        waiting = channel.run(CALL)
        await channel.close()
        return await all_of([sent, waiting, channel.run(CALL)])

    assert run(use, connection) == [OutcomeUnknown, Closed, Closed]
    assert len(connection.sent) == 1


def test_a_loop_that_ends_with_calls_under_way_ends() -> None:
    """asyncio.run cancels the callers, which wait on, and the sender, which tells them; nobody had closed anything."""
    connection = Connection(HOLD)
    ends: list[object] = []

    async def use() -> None:
        channel = AsyncChannel(cast("Connector", Pool(connection)), SETTINGS)

        async def caller() -> None:
            try:
                await channel.run(CALL)
            except BaseException as error:
                ends.append(type(error))
                raise

        tasks = [asyncio.create_task(caller()) for _ in range(2)]
        await connection.held.wait()
        assert not any(task.done() for task in tasks)

    asyncio.run(use())
    assert ends == [asyncio.CancelledError] * 2
    assert connection.disconnected == 1


def test_a_forked_child_uses_no_connection_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the channel in another process sends nothing, and closing it cuts nothing of the parent's."""
    pool = Pool(Connection(replied(0)))

    async def use() -> None:
        channel = AsyncChannel(cast("Connector", pool), SETTINGS)
        assert await all_of([channel.run(CALL)]) == [0]
        with monkeypatch.context() as child:
            child.setattr("coordinator.wire.asynchronous.os.getpid", lambda: -1)
            assert await all_of([channel.run(CALL)]) == [Closed]
            await channel.close()
        assert (len(pool.connection.sent), pool.connection.disconnected, pool.disconnected) == (1, 0, False)
        await channel.close()
        assert (pool.out, pool.disconnected) == (0, True)

    asyncio.run(use())


@pytest.mark.parametrize("failure", [redis.TimeoutError("slow"), OSError("gone")], ids=lambda e: type(e).__name__)
def test_a_connection_that_does_not_end_well_is_no_error_of_closing(failure: Exception) -> None:
    """Closing is best effort: nobody can do anything about it."""

    class Stuck(Pool):
        async def disconnect(self) -> None:
            await super().disconnect()
            raise failure

    pool = cast("Connector", Stuck(Connection()))

    async def close() -> None:
        await AsyncChannel(pool, SETTINGS).close()
        await AsyncEvents(pool, KEYS, SETTINGS).close()

    asyncio.run(close())
