"""Round trips on a fake connection: what each failure means, that nothing is sent twice, and whose a connection is."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import Closed, ContractBroken, CoordinatorError, OutcomeUnknown, Unavailable
from coordinator.protocol import Call, Head
from coordinator.protocol import call as base
from coordinator.wire.blocking import Channel, Events
from coordinator.wire.commands import packed, packed_whole
from coordinator.wire.connector import KEPT_SECONDS, Connector
from tests.unit.wire_cases import (
    ADVANCED,
    CALL,
    KEYS,
    LOST,
    MESSAGES,
    NOSCRIPT,
    SETTINGS,
    Connection,
    Pool,
    channel_on,
    evalsha,
    idle_and,
    parsed,
    run,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 20.0
"""Seconds after which a wait has failed; nothing is judged by how long it took."""


# -- calls -----------------------------------------------------------------------------------------------------------


def test_a_call_is_one_command() -> None:
    """EVALSHA with the address, one key, the head and the arguments in order; the reply is parsed."""
    connection = Connection(ADVANCED)
    reply = run(connection)
    assert connection.sent == [evalsha()]
    assert (reply.status, reply.view.revision, reply.view.in_force, reply.data) == ("ADVANCED", 3, True, [])
    assert connection.disconnected == 0


WORDS = st.lists(st.binary(max_size=40) | st.text(max_size=20) | st.integers(-(2**60), 2**60), max_size=6)


@given(owner=st.from_regex(r"[a-z]{1,9}:[0-9]{1,13}", fullmatch=True), key=st.binary(min_size=1), args=WORDS)
def test_a_command_is_packed_as_redis_py_packs_it(owner: str, key: bytes, args: list[bytes | str | int]) -> None:
    """Whatever the key, the head and the arguments are: short, empty, not ASCII, negative."""
    call = Call(CALL.script, key, Head(owner, 0.0, 1, 2, 3, b"view"), tuple(args), base.nothing)
    assert packed(call) == evalsha(call)
    assert packed_whole(call) == whole(call)


def test_large_and_odd_arguments_are_packed_as_they_are() -> None:
    """Beyond the length at which redis-py sends a word by itself, and text that was bytes of no character."""
    large, odd = b"x" * 100_000, "\udcff"
    call = Call(CALL.script, CALL.key, CALL.head, (large, odd), base.nothing)
    assert packed(call) == evalsha(Call(CALL.script, CALL.key, CALL.head, (large, b"\xff"), base.nothing))


def test_a_script_that_redis_does_not_know_is_sent_once() -> None:
    """NOSCRIPT is followed by one EVAL of the source with the same key, head and arguments."""
    connection = Connection(parsed(NOSCRIPT), ADVANCED)
    assert run(connection).status == "ADVANCED"
    assert connection.sent == [evalsha(), whole()]
    assert connection.disconnected == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (parsed(NOSCRIPT), ContractBroken),
        (parsed(MESSAGES["OOM"]), Unavailable),
        (redis.TimeoutError("timed out"), OutcomeUnknown),
    ],
    ids=["NOSCRIPT again", "OOM", "no answer"],
)
def test_the_eval_is_not_repeated(answer: Exception, expected: type[CoordinatorError]) -> None:
    """What the one EVAL meets is mapped like what an EVALSHA meets."""
    connection = Connection(parsed(NOSCRIPT), answer)
    with pytest.raises(expected):
        run(connection)
    assert connection.sent == [evalsha(), whole()]


@pytest.mark.parametrize("failure", LOST, ids=lambda e: type(e).__name__)
def test_without_a_connection_nothing_was_executed(failure: BaseException) -> None:
    """A connection that cannot be had is Unavailable, with advice and the cause; nothing is sent."""
    connection = Connection()
    with pytest.raises(Unavailable, match="check that it runs and the URL") as caught:
        run(connection, failure)
    assert caught.value.__cause__ is failure
    assert connection.sent == []


@pytest.mark.parametrize("on_send", [True, False], ids=["while sending", "while reading"])
@pytest.mark.parametrize("failure", LOST, ids=lambda e: type(e).__name__)
def test_without_an_answer_the_outcome_is_unknown(failure: BaseException, on_send: bool) -> None:  # noqa: FBT001
    """After the send began it may have run: OutcomeUnknown, the connection is cut, nothing is sent again."""
    connection = Connection(failure, on_send=on_send)
    with pytest.raises(OutcomeUnknown, match="repeating the same call is safe") as caught:
        run(connection)
    assert caught.value.__cause__ is failure
    assert connection.disconnected == 1
    assert len(connection.sent) == 1


def test_trouble_with_giving_a_connection_back_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread closes the pool: cutting and giving back fail too, the call's own outcome is what is told."""

    def odd(*_: object) -> None:
        message = "closed meanwhile"
        raise AttributeError(message)

    monkeypatch.setattr(Connection, "disconnect", odd)
    monkeypatch.setattr(Pool, "release", odd)
    with pytest.raises(OutcomeUnknown):
        channel_on(Pool(Connection(redis.ConnectionError("reset")))).run(CALL)
    with pytest.raises(Unavailable):
        Events(cast("Connector", Pool(Connection(redis.ConnectionError("reset")))), KEYS, SETTINGS).read("0-0")
    channel = channel_on(Pool(Connection(ADVANCED)))
    assert channel.run(CALL).status == "ADVANCED"
    channel.close()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit()], ids=lambda e: type(e).__name__)
def test_an_interrupted_call_leaves_no_answer_behind(failure: BaseException) -> None:
    """What is not ours is raised as it is, and the connection whose answer is still to come is cut."""
    connection = Connection(failure)
    with pytest.raises(type(failure)):
        run(connection)
    assert connection.disconnected == 1


# -- whose a connection is -------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_call_and_passes_through_its_pool_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool renews credentials that run out, so it sees each connection again after a moment."""
    now = 100.0
    monkeypatch.setattr("coordinator.wire.blocking.monotonic", lambda: now)
    pool = Pool(Connection(*[ADVANCED] * 4))
    channel = channel_on(pool)
    for _ in range(3):
        channel.run(CALL)
    assert (pool.taken, len(pool.out)) == (1, 1)
    now += 1.01 * KEPT_SECONDS
    channel.run(CALL)
    assert (pool.taken, len(pool.out)) == (2, 1)


def test_a_connection_that_redis_has_closed_is_replaced_before_anything_is_sent() -> None:
    """Redis was restarted between two calls: the second is no unknown outcome, whether it can connect or not."""
    connection = Connection(ADVANCED, ADVANCED)
    pool = Pool(connection)
    channel = channel_on(pool)
    channel.run(CALL)
    connection.ended = True
    assert channel.run(CALL).status == "ADVANCED"
    assert pool.taken == 2
    connection.ended, pool.failure = True, redis.ConnectionError("refused")
    with pytest.raises(Unavailable):
        channel.run(CALL)
    assert (len(connection.sent), pool.out) == (2, [])


def test_calls_at_the_same_time_have_a_connection_each_and_threads_that_end_leave_none_behind() -> None:
    """Two calls under way are two connections, both are kept for whoever comes; nothing is lost with its thread."""
    first, second = Connection(*[ADVANCED] * 3), Connection(ADVANCED)
    pool = Pool(first, second)
    channel = channel_on(pool)
    read = first.read_response

    def meanwhile() -> object:
        first.read_response = read  # type: ignore[method-assign]
        thread = threading.Thread(target=channel.run, args=(CALL,))
        thread.start()
        thread.join(BOUND)
        return read()

    first.read_response = meanwhile  # type: ignore[method-assign]
    channel.run(CALL)
    assert (len(first.sent), len(second.sent), pool.taken) == (1, 1, 2)
    channel.run(CALL)
    channel.run(CALL)
    assert pool.taken == 2
    channel.close()
    assert pool.out == []


class Counting(redis.Connection):
    """A connection of a real pool, to no server; it answers, and notices a second user."""

    def __init__(self, **given: Any) -> None:
        """Nobody uses it."""
        super().__init__(**given)  # type: ignore[no-untyped-call]
        self.users = 0

    def connect(self) -> None:
        """Connect nowhere."""

    def can_read(self, timeout: float = 0) -> bool:  # noqa: ARG002
        """Nothing comes by itself."""
        return False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002
        """Begin to use it."""
        self.users += 1
        assert self.users == 1

    def read_response(self, *_: Any, **__: Any) -> Any:
        """End to use it, after others had their turn."""
        threading.Event().wait(0.0001)
        assert self.users == 1
        self.users -= 1
        return ADVANCED


@pytest.mark.parametrize("size", [1, 2, 8], ids=lambda size: f"{size} connections")
def test_threads_share_the_connections_of_a_pool_that_blocks(size: int) -> None:
    """Eight threads: no connection has two users, and none waits in vain for one that another thread keeps."""
    theirs = redis.BlockingConnectionPool(max_connections=size, connection_class=Counting)  # type: ignore[no-untyped-call]
    channel = Channel(Connector(redis.Redis(connection_pool=theirs), SETTINGS), SETTINGS)
    channel._pool.timeout = BOUND
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(channel.run, [CALL] * 400, timeout=BOUND))
    assert [reply.status for reply in replies] == ["ADVANCED"] * 400
    channel.close()
    assert channel._pool.pool.qsize() == size


def test_a_connection_that_becomes_idle_while_another_is_sought_is_found() -> None:
    """Another thread kept it after this one looked and before it was known to seek: the pool has none to give."""
    connection = Connection(ADVANCED)
    pool = Pool(connection)
    channel = channel_on(pool)

    class Between:
        """Stands for the mutex: the other thread acts before this one has it."""

        def __enter__(self) -> None:
            channel._keep((pool.get_connection(), 0.0)) if pool.free else None

        def __exit__(self, *_: object) -> None:
            """Give it back."""

    channel._mutex = cast("Any", Between())
    assert channel.run(CALL).status == "ADVANCED"


def test_what_ends_one_connection_has_the_pool_look_at_the_others() -> None:
    """Redis was restarted: the idle ones are given back, uncut, and are seen by the pool before they are used."""
    pool, idle, failing = idle_and(redis.ConnectionError("reset"))
    assert (idle.disconnected, failing.disconnected) == (0, 1)
    assert pool.out == []


def test_a_closed_channel_sends_nothing_any_more() -> None:
    """Its pool would open a connection that nobody closes: refused, and one that was in use meanwhile is cut."""
    connection = Connection(ADVANCED, ADVANCED)
    pool = Pool(connection)
    channel = channel_on(pool)
    read = connection.read_response

    def closed_meanwhile() -> object:
        channel.close()
        return read()

    connection.read_response = closed_meanwhile  # type: ignore[method-assign]
    assert channel.run(CALL).status == "ADVANCED"
    assert (connection.disconnected, pool.out) == (1, [])
    with pytest.raises(Closed):
        channel.run(CALL)
    assert len(connection.sent) == 1


def in_a_child(check: Callable[[], bool]) -> bool:
    """Return what `check` answers in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_uses_no_connection_of_its_parent() -> None:
    """It may neither send, as the same owner, nor cut what the parent uses; the parent goes on."""
    connection = Connection(ADVANCED, ADVANCED)
    pool = Pool(connection)
    channel = channel_on(pool)
    channel.run(CALL)

    def child() -> bool:
        try:
            channel.run(CALL)
        except Closed:
            channel.close()
            return len(connection.sent) == 1 and not connection.disconnected and not pool.disconnected
        return False

    assert in_a_child(child)
    assert channel.run(CALL).status == "ADVANCED"
    assert pool.taken == 1


def test_a_channel_closes_its_own_pool_only() -> None:
    """Calls time out after op_timeout; closing a channel disconnects the pool that was made for it."""
    pool = Pool(Connection())
    channel = channel_on(pool)
    assert pool.timeout == SETTINGS.op_timeout_seconds
    channel.close()
    assert pool.disconnected
