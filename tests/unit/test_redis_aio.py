"""Pipelines on a fake connection: whose reply is whose, what each failure means, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel

from coordinator import AsyncCoordinator, Closed, ContractBroken, InvalidArgument, OutcomeUnknown, Settings, Unavailable
from coordinator.wire.asynchronous import PIPELINE_MAX, AsyncChannel, AsyncEvents, from_url
from coordinator.wire.blocking import ADVICE, Connector
from tests.unit.test_redis_io import ADVANCED, AT_CONNECT, CALL, KEYS, LOST, MESSAGES, parsed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from coordinator.protocol import Reply

SETTINGS = Settings()
BOUND = 20.0
NOSCRIPT = "NOSCRIPT No matching script."
REFUSED: list[BaseException] = [*LOST, parsed(MESSAGES["OOM"]), parsed(AT_CONNECT["LOADING"])]
HOLD = object()
"""An answer that does not come before the connection is cut."""


class Connection:
    """Answers from a list, reply by reply; an exception in it is raised, by the send if `on_send`."""

    def __init__(self, *answers: object, on_send: BaseException | None = None) -> None:
        """Prepare the answers."""
        self.answers = list(answers)
        self.on_send = on_send
        self.sent: list[list[tuple[Any, ...]]] = []
        self.busy = asyncio.Event()
        """Set once something was sent."""
        self.held = asyncio.Event()
        """Set once a read waits for an answer that does not come."""
        self.disconnected = 0

    def pack_commands(self, commands: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Keep commands as they are."""
        return list(commands)

    def pack_command(self, *command: Any) -> tuple[Any, ...]:
        """Keep it as it is."""
        return command

    async def send_packed_command(self, commands: list[tuple[Any, ...]]) -> None:
        """Note the pipeline."""
        self.sent.append(commands)
        self.busy.set()
        if self.on_send is not None:
            raise self.on_send

    async def send_command(self, *command: Any) -> None:
        """Note a pipeline of one."""
        await self.send_packed_command([command])

    async def read_response(self) -> object:
        """Give the next answer, after others had their turn."""
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if answer is HOLD:
            self.held.set()
            await asyncio.get_running_loop().create_future()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def disconnect(self, *, nowait: bool = False) -> None:
        """Count it."""
        assert nowait, "nobody waits for the other side of a connection that failed"
        self.disconnected += 1


class Pool:
    """Gives out one connection, or fails to connect; stands for its connector too."""

    def __init__(self, connection: Connection, failure: BaseException | None = None) -> None:
        """Keep both."""
        self.connection = connection
        self.failure = failure
        self.out = 0
        self.disconnected = False

    def pool(self, *, timeout: float) -> Pool:
        """Be the connector's pool."""
        self.timeout = timeout
        return self

    async def get_connection(self) -> Connection:
        """Give it out: one at a time."""
        if self.failure is not None:
            raise self.failure
        self.out += 1
        assert self.out == 1
        return self.connection

    async def release(self, connection: Connection) -> None:
        """Take it back."""
        assert connection is self.connection
        self.out -= 1

    async def disconnect(self) -> None:
        """Note it."""
        self.disconnected = True


def replied(number: int) -> list[object]:
    """Return a reply that can be told from others, by its writes."""
    return [*ADVANCED[:6], number, *ADVANCED[7:]]


def told(answer: object) -> object:
    """Return what tells an outcome from others: the number of a reply, or the class of an error."""
    return answer.state.writes if hasattr(answer, "state") else type(answer)


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
    assert connection.sent == [[("EVALSHA", CALL.script.sha, len(CALL.keys), *CALL.keys, *CALL.args)] * 3]
    assert connection.disconnected == 0


def test_calls_that_come_meanwhile_are_the_next_pipeline() -> None:
    """What is asked while a pipeline is under way goes out when it is answered, together."""
    connection = Connection(*map(replied, range(5)))

    async def use(channel: AsyncChannel) -> list[object]:
        first = [channel.run(CALL), channel.run(CALL)]
        await connection.busy.wait()
        return await all_of([*first, *(channel.run(CALL) for _ in range(3))])

    assert run(use, connection) == [0, 1, 2, 3, 4]
    assert [len(pipeline) for pipeline in connection.sent] == [2, 3]


def test_a_pipeline_has_a_greatest_length() -> None:
    """More calls than that are several pipelines on the same connection, in order."""
    connection = Connection(*map(replied, range(2 * PIPELINE_MAX + 1)))
    assert outcomes(connection, 2 * PIPELINE_MAX + 1) == list(range(2 * PIPELINE_MAX + 1))
    assert [len(pipeline) for pipeline in connection.sent] == [PIPELINE_MAX, PIPELINE_MAX, 1]


def test_only_scripts_that_redis_does_not_know_are_sent_again() -> None:
    """NOSCRIPT of two of four is followed by one pipeline of two EVALs, whose replies go to those two."""
    connection = Connection(replied(0), parsed(NOSCRIPT), replied(2), parsed(NOSCRIPT), replied(1), replied(3))
    assert outcomes(connection, 4) == [0, 1, 2, 3]
    whole = ("EVAL", CALL.script.source, len(CALL.keys), *CALL.keys, *CALL.args)
    assert connection.sent[1:] == [[whole, whole]]


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
    assert ADVICE[code] in str(refused)
    assert connection.disconnected == 1


def test_a_silent_connection_is_given_up_after_op_timeout() -> None:
    """The whole pipeline has op_timeout: answered calls keep their replies, the connection is cut."""
    connection = Connection(replied(0), HOLD)
    soon = Settings(op_timeout_seconds=0.01)
    assert run(lambda channel: all_of([channel.run(CALL) for _ in range(3)]), connection, settings=soon) == [
        0, OutcomeUnknown, OutcomeUnknown,
    ]  # fmt: skip
    assert connection.disconnected == 1


def test_the_next_call_after_a_failure_gets_a_reply_of_its_own() -> None:
    """A cut connection is no end: the channel goes on."""
    connection = Connection(redis.ConnectionError("reset"), replied(7))

    async def use(channel: AsyncChannel) -> list[object]:
        return await all_of([channel.run(CALL)]) + await all_of([channel.run(CALL)])

    assert run(use, connection) == [OutcomeUnknown, 7]


# -- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["queued", "sent"])
def test_a_call_that_was_given_up_keeps_its_place(when: str) -> None:
    """Its reply is read and thrown away; the neighbours get their own."""
    connection = Connection(replied(0), replied(1), replied(2))

    async def use(channel: AsyncChannel) -> list[object]:
        calls = [channel.run(CALL) for _ in range(3)]
        if when == "sent":
            await connection.busy.wait()
        calls[1].cancel()
        return await all_of(calls)

    assert run(use, connection) == [0, asyncio.CancelledError, 2]
    assert connection.answers == []


@pytest.mark.parametrize("when", ["before it ran", "while it reads"])
def test_nobody_waits_for_ever_for_a_sender_that_was_cancelled(when: str) -> None:
    """All calls, queued ones too, end with OutcomeUnknown; the connection is cut; the next call starts anew."""
    connection = Connection(*[HOLD] * (when == "while it reads"), replied(9))

    async def use(channel: AsyncChannel) -> list[object]:
        calls = [channel.run(CALL) for _ in range(PIPELINE_MAX + 1)]
        if when == "while it reads":
            await connection.held.wait()
        assert channel._sender is not None
        channel._sender.cancel()
        assert await all_of(calls) == [OutcomeUnknown] * len(calls)
        return await all_of([channel.run(CALL)])

    assert run(use, connection) == [9]
    assert connection.disconnected == (when == "while it reads")


def test_nobody_waits_for_ever_for_a_sender_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of, while sending or while parsing: every call ends, as unknown."""
    assert outcomes(Connection(on_send=RuntimeError("odd")), 2) == [OutcomeUnknown] * 2

    def odd(*_: object) -> None:
        message = "odd"
        raise RuntimeError(message)

    monkeypatch.setattr("coordinator.wire.asynchronous.read", odd)
    assert outcomes(Connection(replied(0), replied(1)), 2) == [OutcomeUnknown] * 2


def test_a_closed_channel_sends_nothing_any_more() -> None:
    """Closing gives up what waits, waits for the sender to end, and refuses what comes later."""
    connection = Connection(HOLD)

    async def use(channel: AsyncChannel) -> list[object]:
        waiting = channel.run(CALL)
        await connection.held.wait()
        await channel.close()
        return await all_of([waiting, channel.run(CALL)])

    assert run(use, connection) == [OutcomeUnknown, Closed]
    assert len(connection.sent) == 1


# -- pools -----------------------------------------------------------------------------------------------------------


def user_clients() -> list[Any]:
    """Return clients as users configure them; none is connected."""
    sentinel = Sentinel([("127.0.0.1", 1)]).master_for("mymaster")  # type: ignore[no-untyped-call]
    blocking = redis.asyncio.BlockingConnectionPool(max_connections=3, decode_responses=True)
    return [
        pytest.param(redis.asyncio.Redis(decode_responses=True, protocol=3, db=4, client_name="app"), id="RESP3"),
        pytest.param(redis.asyncio.Redis(encoding="utf-16", encoding_errors="ignore"), id="UTF-16"),
        pytest.param(redis.asyncio.Redis(retry_on_error=[redis.ConnectionError], socket_timeout=60), id="retrying"),
        pytest.param(redis.asyncio.Redis.from_url("rediss://user:secret@db.example:7000/2"), id="TLS"),
        pytest.param(redis.asyncio.Redis(unix_socket_path="/run/redis.sock"), id="Unix socket"),
        pytest.param(redis.asyncio.Redis(connection_pool=blocking), id="blocking"),
        pytest.param(sentinel, id="Sentinel"),
    ]


@pytest.mark.parametrize("client", user_clients())
def test_own_pools_are_made_of_the_clients_and_leave_it_alone(client: redis.asyncio.Redis) -> None:
    """Same class and address; RESP2, bytes, our time-outs and no retry; the client's own pool is as it was."""
    theirs = cast("Any", client.connection_pool)
    before = copy.copy(theirs.connection_kwargs)
    pool = Connector(client, SETTINGS).pool(timeout=1.25)
    assert pool is not theirs
    assert type(pool) is type(theirs)
    assert pool.connection_class is theirs.connection_class
    assert pool.max_connections == theirs.max_connections
    connection = pool.make_connection()
    assert int(connection.protocol) == 2
    assert connection.encoder.decode_responses is False
    assert (connection.encoder.encoding, connection.encoder.encoding_errors) == ("utf-8", "strict")
    assert (connection.retry.get_retries(), connection.retry_on_error) == (0, [])
    assert asyncio.iscoroutinefunction(connection.retry.call_with_retry)
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (1.25, SETTINGS.op_timeout_seconds)
    for name in ("host", "port", "path", "db", "username", "password", "client_name"):
        assert pool.connection_kwargs.get(name) == before.get(name)
    assert client.connection_pool is theirs
    assert theirs.connection_kwargs == before


def test_nothing_waits_longer_than_a_round_trip_may_take() -> None:
    """For a free connection of a pool that blocks, for a sentinel's answer; our own sentinels' clients are closed."""
    blocking = redis.asyncio.BlockingConnectionPool()
    pool = Connector(redis.asyncio.Redis(connection_pool=blocking), SETTINGS).pool(timeout=1.25)
    assert (pool.timeout, blocking.timeout) == (SETTINGS.op_timeout_seconds, 20)
    theirs = Sentinel([("127.0.0.1", 1)], 1, {"socket_timeout": 60})  # type: ignore[no-untyped-call]
    channel = AsyncChannel(Connector(theirs.master_for("mymaster"), SETTINGS), SETTINGS)
    ours = channel._pool.sentinel_manager
    assert channel._pool.proxy.sentinel_manager is ours if hasattr(channel._pool, "proxy") else ours is not theirs
    kwargs = ours.sentinels[0].connection_pool.connection_kwargs
    assert (kwargs["host"], kwargs["port"], ours.min_other_sentinels) == ("127.0.0.1", 1, 1)
    assert kwargs["socket_timeout"] == kwargs["socket_connect_timeout"] == SETTINGS.op_timeout_seconds
    assert kwargs["retry"].get_retries() == 0
    assert theirs.sentinels[0].connection_pool.connection_kwargs["socket_timeout"] == 60
    closed: list[None] = []

    async def close() -> None:
        closed.append(None)

    ours.sentinels[0].aclose = close
    asyncio.run(channel.close())
    assert closed == [None]


def test_a_client_that_was_passed_in_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a channel nor the reader of events disconnects the user's pool."""
    client = redis.asyncio.Redis()
    closed: list[object] = []
    monkeypatch.setattr(client.connection_pool, "disconnect", lambda *_: closed.append(client))
    connector = Connector(client, SETTINGS)

    async def close() -> None:
        await AsyncChannel(connector, SETTINGS).close()
        await AsyncEvents(connector, KEYS, SETTINGS).close()

    asyncio.run(close())
    assert closed == []


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


# -- events ----------------------------------------------------------------------------------------------------------


def events(connection: Connection, failure: BaseException | None = None) -> tuple[AsyncEvents, Pool]:
    """Return a reader on a fake connection."""
    pool = Pool(connection, failure)
    return AsyncEvents(cast("Connector", pool), KEYS, SETTINGS), pool


def test_events_are_read_by_a_blocking_read() -> None:
    """One XREAD that blocks for less than its time-out; nil is no event, and the connection is kept."""
    entries = [(b"1-0", [b"kind", b"moved", b"client", b"\xff"]), (b"1-1", [b"kind", b"lift"])]
    connection = Connection([[b"key", [[name, fields] for name, fields in entries]]], None)
    reader, pool = events(connection)
    assert asyncio.run(reader.read("0-5")) == [
        ("1-0", "moved", {"kind": b"moved", "client": b"\xff"}),
        ("1-1", "lift", {"kind": b"lift"}),
    ]
    assert connection.sent == [[("XREAD", "BLOCK", 1000, "STREAMS", KEYS.key("events"), "0-5")]]
    assert pool.timeout == pytest.approx(1.0 + SETTINGS.op_timeout_seconds)
    assert asyncio.run(reader.read("0-0")) == []
    assert (connection.disconnected, pool.out) == (0, 0)


@pytest.mark.parametrize("failure", REFUSED, ids=lambda e: type(e).__name__)
def test_a_failed_read_of_events_is_unavailable(failure: BaseException) -> None:
    """A read changes nothing: every failure is Unavailable, and the connection is cut and given back."""
    connection = Connection(failure)
    reader, pool = events(connection)
    with pytest.raises(Unavailable):
        asyncio.run(reader.read("0-0"))
    assert (connection.disconnected, pool.out) == (1, 0)
    reader, _ = events(Connection(), failure)
    with pytest.raises(Unavailable):
        asyncio.run(reader.read("0-0"))


def test_a_read_of_events_that_is_cancelled_leaves_no_answer_behind() -> None:
    """The connection whose answer is still to come is cut and given back."""
    connection = Connection(HOLD)
    reader, pool = events(connection)

    async def cancel() -> None:
        reading = asyncio.create_task(reader.read("0-0"))
        await connection.held.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(cancel())
    assert (connection.disconnected, pool.out) == (1, 0)


# -- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://user:secret@h:1", "user:secret@h", "redis://user:secret@h:port/0"])
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    """A URL of another kind is InvalidArgument; its password is not shown."""
    with pytest.raises(InvalidArgument, match="is no Redis URL") as caught:
        from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [redis.Redis(), "redis://h", None])
def test_the_other_kind_of_client_is_refused(given: Any) -> None:
    """A blocking client, or what is none at all: the error says so before anything is sent."""
    with pytest.raises(InvalidArgument, match=r"takes a redis\.asyncio\.Redis|must be a redis\.Redis"):
        AsyncCoordinator(given, node="n")
