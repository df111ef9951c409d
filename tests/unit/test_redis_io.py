"""Round trips on a fake connection: what each failure means, and that nothing is sent twice."""

from __future__ import annotations

import copy
import functools
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from redis._parsers.base import BaseParser
from redis.sentinel import Sentinel

from coordinator import Closed, ContractBroken, Coordinator, InvalidArgument, OutcomeUnknown, Settings, Unavailable
from coordinator.errors import CoordinatorError
from coordinator.node.lease import Head
from coordinator.protocol import Call
from coordinator.protocol import call as base
from coordinator.protocol.keys import Keys
from coordinator.wire.blocking import ADVICE, Channel, Connector, Events, answered, from_url

SETTINGS = Settings()
KEYS = Keys("ns", "s")
CALL: Call[None] = base.call("grace_advance", KEYS, Head("n1:1", 5000, "d", 1, 2, 3, 0.0), (0,), base.nothing)
ADVANCED = [b"ADVANCED", 4000, b"d", 3, 3, b"active", 2, 1, 0, 90_000, 200_000]
LOST: list[BaseException] = [
    redis.ConnectionError("reset"), redis.TimeoutError("timed out"), ConnectionResetError("reset"), OSError("gone"),
    redis.InvalidResponse("Protocol Error: b'HTTP/1.1 502'"), ValueError("odd"), AttributeError("closed meanwhile"),
]  # fmt: skip
"""What no reply comes after: of the connection, of what is at its other end, of another thread that closes it."""
MESSAGES = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it is unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "NOPERM": "NOPERM User app has no permissions to run the 'evalsha' command",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
}
AT_CONNECT = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "NOAUTH": "NOAUTH Authentication required.",
    "WRONGPASS": "WRONGPASS invalid username-password pair or user is disabled.",
}


def parsed(message: str) -> Exception:
    """Return the exception that redis-py makes of an error of the server."""
    error: Exception = BaseParser.parse_error(message)  # type: ignore[no-untyped-call]
    return error


class Connection:
    """Answers from a list; an exception in it is raised, by the send if `on_send`."""

    def __init__(self, *answers: object, on_send: bool = False) -> None:
        """Prepare the answers."""
        self.answers = list(answers)
        self.on_send = on_send
        self.sent: list[tuple[Any, ...]] = []
        self.disconnected = 0

    def send_command(self, *command: Any) -> None:
        """Note the command."""
        self.sent.append(command)
        if self.on_send:
            self.read_response()

    def read_response(self) -> object:
        """Give the next answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def disconnect(self) -> None:
        """Count it."""
        self.disconnected += 1


class Pool:
    """Gives out one connection, or fails to connect; stands for its connector too."""

    def __init__(self, connection: Connection, failure: BaseException | None = None) -> None:
        """Keep both."""
        self.connection = connection
        self.failure = failure
        self.out = 0
        self.timeout = 0.0
        self.disconnected = False

    def pool(self, *, timeout: float) -> Pool:
        """Be the connector's pool."""
        self.timeout = timeout
        return self

    def get_connection(self) -> Connection:
        """Give it out."""
        if self.failure is not None:
            raise self.failure
        self.out += 1
        return self.connection

    def release(self, connection: Connection) -> None:
        """Take it back."""
        assert connection is self.connection
        self.out -= 1

    def disconnect(self) -> None:
        """Note it."""
        self.disconnected = True


def run(connection: Connection, failure: BaseException | None = None) -> base.Reply:
    """Run the call; the connection is back in its pool afterwards, whatever happened."""
    pool = Pool(connection, failure)
    try:
        return Channel(cast("Connector", pool), SETTINGS).run(CALL)
    finally:
        assert pool.out == 0


# -- calls -----------------------------------------------------------------------------------------------------------


def test_a_call_is_one_command() -> None:
    """EVALSHA with the address, the number of keys, keys and arguments in order; the reply is parsed."""
    connection = Connection(ADVANCED)
    reply = run(connection)
    assert connection.sent == [("EVALSHA", CALL.script.sha, len(CALL.keys), *CALL.keys, *CALL.args)]
    assert (reply.status, reply.state.revision, reply.state.in_force, reply.data) == ("ADVANCED", 3, True, ())
    assert connection.disconnected == 0


def test_a_script_that_redis_does_not_know_is_sent_once() -> None:
    """NOSCRIPT is followed by one EVAL of the source with the same keys and arguments."""
    connection = Connection(parsed("NOSCRIPT No matching script."), ADVANCED)
    assert run(connection).status == "ADVANCED"
    evalsha, evaluated = connection.sent
    assert evalsha[0] == "EVALSHA"
    assert evaluated == ("EVAL", CALL.script.source, *evalsha[2:])
    assert connection.disconnected == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (parsed("NOSCRIPT No matching script."), ContractBroken),
        (parsed(MESSAGES["OOM"]), Unavailable),
        (redis.TimeoutError("timed out"), OutcomeUnknown),
    ],
    ids=["NOSCRIPT again", "OOM", "no answer"],
)
def test_the_eval_is_not_repeated(answer: Exception, expected: type[CoordinatorError]) -> None:
    """What the one EVAL meets is mapped like what an EVALSHA meets."""
    connection = Connection(parsed("NOSCRIPT No matching script."), answer)
    with pytest.raises(expected):
        run(connection)
    assert [command[0] for command in connection.sent] == ["EVALSHA", "EVAL"]


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
    pool = cast("Connector", Pool(Connection(redis.ConnectionError("reset"))))
    with pytest.raises(OutcomeUnknown):
        Channel(pool, SETTINGS).run(CALL)
    with pytest.raises(Unavailable):
        Events(pool, KEYS, SETTINGS).read("0-0")
    assert Channel(cast("Connector", Pool(Connection(ADVANCED))), SETTINGS).run(CALL).status == "ADVANCED"


def test_a_closed_channel_sends_nothing_any_more() -> None:
    """Its pool would open a connection that nobody closes: refused, and one that was in use meanwhile is cut."""
    connection = Connection(ADVANCED, ADVANCED)
    channel = Channel(cast("Connector", Pool(connection)), SETTINGS)
    read = connection.read_response

    def closed_meanwhile() -> object:
        channel.close()
        return read()

    connection.read_response = closed_meanwhile  # type: ignore[method-assign]
    assert channel.run(CALL).status == "ADVANCED"
    assert connection.disconnected == 1
    with pytest.raises(Closed):
        channel.run(CALL)
    assert len(connection.sent) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit()], ids=lambda e: type(e).__name__)
def test_an_interrupted_call_leaves_no_answer_behind(failure: BaseException) -> None:
    """What is not ours is raised as it is, and the connection whose answer is still to come is cut."""
    connection = Connection(failure)
    with pytest.raises(type(failure)):
        run(connection)
    assert connection.disconnected == 1


# -- errors that Redis answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "message"), MESSAGES.items())
def test_a_known_error_says_what_to_do(code: str, message: str) -> None:
    """Each code with advice, as redis-py really delivers it, is Unavailable with that advice; the connection stays."""
    connection = Connection(parsed(message))
    with pytest.raises(CoordinatorError) as caught:
        run(connection)
    assert isinstance(caught.value, Unavailable)
    assert ADVICE[code] in str(caught.value)
    assert connection.disconnected == 0


@pytest.mark.parametrize(("code", "message"), AT_CONNECT.items())
def test_an_error_of_the_session_was_not_executed(code: str, message: str) -> None:
    """Redis answered a command that it does not serve yet, or not us: Unavailable with the right advice."""
    connection = Connection(parsed(message))
    with pytest.raises(Unavailable) as caught:
        run(connection)
    assert ADVICE[code] in str(caught.value)


@pytest.mark.parametrize(("code", "message"), AT_CONNECT.items())
def test_an_error_of_the_handshake_says_what_to_do(code: str, message: str) -> None:
    """The same errors met while connecting carry the same advice."""
    with pytest.raises(Unavailable) as caught:
        run(Connection(), parsed(message))
    assert ADVICE[code] in str(caught.value)


def test_all_advice_is_tried_here() -> None:
    """No code has advice without a test."""
    assert MESSAGES.keys() | AT_CONNECT.keys() == ADVICE.keys()


@pytest.mark.parametrize("message", ["ERR unknown command 'EVALSHA'", "WRONGTYPE Operation against a key", "nonsense"])
def test_an_unknown_error_breaks_the_contract(message: str) -> None:
    """An error that no script gives is ContractBroken and names the error."""
    error = parsed(message)
    assert isinstance(error, redis.ResponseError)
    mapped = answered(error)
    assert type(mapped) is ContractBroken
    assert str(error) in str(mapped)


@pytest.mark.parametrize(
    "message",
    [
        "ERR The user executing the script can't run this command or subcommand script: 42fd, on @user_script:298.",
        "ERR ACL failure in script: User app has no permissions to run the 'hset' command script: on @user_script:298.",
    ],
    ids=["Redis 7.0", "later"],
)
def test_a_right_lacking_in_a_script_is_said_and_not_taken_for_unexecuted(message: str) -> None:
    """Its first half was done: neither Unavailable nor OutcomeUnknown, which are sent again; the advice is the same."""
    with pytest.raises(ContractBroken, match="half-way") as caught:
        run(Connection(parsed(message)))
    assert ADVICE["NOPERM"] in str(caught.value)


@pytest.mark.parametrize(
    "raw", [None, b"OK", [], ADVANCED[:10], [b"RENEWED", *ADVANCED[1:]]], ids=["nil", "text", "[]", "short", "status"]
)
def test_a_reply_of_another_version_breaks_the_contract(raw: object) -> None:
    """What is not this script's reply is ContractBroken, naming the script."""
    with pytest.raises(ContractBroken, match="grace_advance"):
        run(Connection(raw))


# -- pools -----------------------------------------------------------------------------------------------------------


def user_clients() -> list[Any]:
    """Return clients as users configure them; none is connected."""
    sentinel = Sentinel([("127.0.0.1", 1)], min_other_sentinels=2).master_for("mymaster")  # type: ignore[no-untyped-call]
    blocking = redis.BlockingConnectionPool(max_connections=3, decode_responses=True)  # type: ignore[no-untyped-call]
    return [
        pytest.param(redis.Redis(decode_responses=True, protocol=3, db=4, client_name="app"), id="RESP3"),
        pytest.param(redis.Redis(encoding="utf-16", encoding_errors="ignore"), id="UTF-16"),
        pytest.param(redis.Redis(retry_on_error=[redis.ConnectionError], socket_timeout=60), id="retrying"),
        pytest.param(redis.Redis.from_url("rediss://user:secret@db.example:7000/2"), id="TLS"),
        pytest.param(redis.Redis(unix_socket_path="/run/redis.sock"), id="Unix socket"),
        pytest.param(redis.Redis(connection_pool=blocking), id="blocking"),
        pytest.param(sentinel, id="Sentinel"),
    ]


@pytest.mark.parametrize("client", user_clients())
def test_own_pools_are_made_of_the_clients_and_leave_it_alone(client: redis.Redis) -> None:
    """Same class and address; RESP2, bytes, our time-outs, no retry, no SETINFO; the client's pool is as it was."""
    theirs = client.connection_pool
    before = copy.copy(theirs.connection_kwargs)
    pool = Connector(client, SETTINGS).pool(timeout=1.25)
    assert pool is not theirs
    assert type(pool) is type(theirs)
    assert pool.connection_class is theirs.connection_class
    assert pool.max_connections == theirs.max_connections
    connection = cast("Any", pool.make_connection())
    assert int(connection.protocol) == 2
    assert connection.encoder.decode_responses is False
    assert (connection.encoder.encoding, connection.encoder.encoding_errors) == ("utf-8", "strict")
    assert connection.driver_info is None
    assert (connection.retry.get_retries(), connection.retry_on_error) == (0, [])
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (1.25, SETTINGS.op_timeout_seconds)
    for name in ("host", "port", "path", "db", "username", "password", "client_name"):
        assert pool.connection_kwargs.get(name) == before.get(name)
    assert client.connection_pool is theirs
    assert theirs.connection_kwargs == before


def test_nothing_waits_longer_for_a_connection_than_a_round_trip_may_take() -> None:
    """A pool that blocks until a connection is free: for op_timeout, not for its 20 s; the user's stays as it was."""
    theirs = redis.BlockingConnectionPool()  # type: ignore[no-untyped-call]
    pool = Connector(redis.Redis(connection_pool=theirs), SETTINGS).pool(timeout=1.25)
    assert (pool.timeout, theirs.timeout) == (SETTINGS.op_timeout_seconds, 20)


def test_sentinels_are_asked_for_no_longer_than_a_round_trip_may_take() -> None:
    """A manager of our own with the same sentinels and credentials, bounded, without retry; closed with its pool."""
    theirs = Sentinel(  # type: ignore[no-untyped-call]
        [("127.0.0.1", 1), ("127.0.0.1", 2)], 1, {"password": "p", "socket_timeout": 60}, socket_timeout=30
    )
    before = [copy.copy(sentinel.connection_pool.connection_kwargs) for sentinel in theirs.sentinels]
    client: redis.Redis = theirs.master_for("mymaster")  # type: ignore[no-untyped-call]
    channel = Channel(Connector(client, SETTINGS), SETTINGS)
    ours = channel._pool.sentinel_manager
    assert channel._pool.proxy.sentinel_manager is ours is not theirs
    assert ours.min_other_sentinels == 1
    closed: list[int] = []
    for sentinel, given in zip(ours.sentinels, before, strict=True):
        kwargs = sentinel.connection_pool.connection_kwargs
        assert [kwargs[name] for name in ("host", "port", "password")] == [
            given[name] for name in ("host", "port", "password")
        ]
        assert kwargs["socket_timeout"] == kwargs["socket_connect_timeout"] == SETTINGS.op_timeout_seconds
        assert kwargs["retry"].get_retries() == 0
        sentinel.close = functools.partial(closed.append, kwargs["port"])
    for sentinel, given in zip(theirs.sentinels, before, strict=True):
        assert sentinel.connection_pool.connection_kwargs == given
    channel.close()
    assert closed == [1, 2]


def test_a_channel_closes_its_own_pool_only() -> None:
    """Calls time out after op_timeout; closing a channel disconnects the pool that was made for it."""
    pool = Pool(Connection())
    channel = Channel(cast("Connector", pool), SETTINGS)
    assert pool.timeout == SETTINGS.op_timeout_seconds
    channel.close()
    assert pool.disconnected


def test_a_client_that_was_passed_in_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a channel nor the reader of events disconnects the user's pool."""
    client = redis.Redis()
    closed: list[object] = []
    monkeypatch.setattr(client.connection_pool, "disconnect", lambda *_: closed.append(client))
    connector = Connector(client, SETTINGS)
    Channel(connector, SETTINGS).close()
    Events(connector, KEYS, SETTINGS).close()
    assert closed == []


# -- events ----------------------------------------------------------------------------------------------------------


def events(connection: Connection, failure: BaseException | None = None) -> tuple[Events, Pool]:
    """Return a reader on a fake connection."""
    pool = Pool(connection, failure)
    return Events(cast("Connector", pool), KEYS, SETTINGS), pool


def test_events_are_read_by_a_blocking_read() -> None:
    """One XREAD that blocks for less than its time-out; fields are kept as bytes, ids and kinds as text."""
    entries = [
        (b"1-0", [b"kind", b"moved", b"client", b"\xff"]),
        (b"1-1", [b"kind", b"lift"]),
        (b"1-2", [b"\xff", b""]),
    ]
    connection = Connection([[b"key", [[name, fields] for name, fields in entries]]])
    reader, pool = events(connection)
    assert reader.read("0-5") == [
        ("1-0", "moved", {"kind": b"moved", "client": b"\xff"}),
        ("1-1", "lift", {"kind": b"lift"}),
        ("1-2", "", {"\udcff": b""}),
    ]
    assert connection.sent == [("XREAD", "BLOCK", 1000, "STREAMS", KEYS.key("events"), "0-5")]
    assert pool.timeout == pytest.approx(1.0 + SETTINGS.op_timeout_seconds)
    assert pool.out == 0


def test_a_block_that_ran_out_is_no_event() -> None:
    """Nil is an empty list, and the connection is kept."""
    connection = Connection(None)
    reader, _ = events(connection)
    assert reader.read("0-0") == []
    assert connection.disconnected == 0


@pytest.mark.parametrize("failure", [*LOST, parsed(MESSAGES["OOM"])], ids=lambda e: type(e).__name__)
def test_a_failed_read_of_events_is_unavailable(failure: BaseException) -> None:
    """A read changes nothing: every failure is Unavailable, and the connection is cut and given back."""
    connection = Connection(failure)
    reader, pool = events(connection)
    with pytest.raises(Unavailable):
        reader.read("0-0")
    assert (connection.disconnected, pool.out) == (1, 0)
    reader, _ = events(Connection(), failure)
    with pytest.raises(Unavailable):
        reader.read("0-0")


# -- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://user:secret@h:1", "user:secret@h", "redis://user:secret@h:port/0"])
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    """A URL of another kind is InvalidArgument; its password is not shown."""
    with pytest.raises(InvalidArgument, match="is no Redis URL") as caught:
        from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [redis.asyncio.Redis(), "redis://h", None])
def test_the_other_kind_of_client_is_refused(given: Any) -> None:
    """An asyncio client, or what is none at all: the error says so before anything is sent."""
    with pytest.raises(InvalidArgument, match=r"takes a redis\.Redis|must be a redis\.Redis"):
        Coordinator(given, node="n")
