"""What each error of redis-py means, met on a connection: executed or not, what to do, and whether it is cut."""

from __future__ import annotations

import pytest
import redis

from coordinator.errors import ContractBroken, CoordinatorError, Unavailable
from coordinator.wire.meaning import MEANINGS, answered
from tests.unit.wire_cases import (
    ADVANCED,
    AT_CONNECT,
    CUT,
    MESSAGES,
    Connection,
    hidden_readonly,
    idle_and,
    parsed,
    run,
)


@pytest.mark.parametrize(("code", "message"), MESSAGES.items())
def test_a_known_error_says_what_to_do(code: str, message: str) -> None:
    """Each code with advice, as redis-py really delivers it, is Unavailable with that advice.

    The connection stays, unless the next one may lead to another server.
    """
    connection = Connection(parsed(message))
    with pytest.raises(CoordinatorError) as caught:
        run(connection)
    assert isinstance(caught.value, Unavailable)
    assert MEANINGS[code].advice in str(caught.value)
    assert connection.disconnected == (code in CUT)


@pytest.mark.parametrize("message", [text for code, text in MESSAGES.items() if code in CUT])
def test_no_connection_stays_with_a_server_that_is_not_the_primary(message: str) -> None:
    """The idle ones lead to the same server: they are cut too."""
    pool, idle, failing = idle_and(parsed(message))
    assert (idle.disconnected, failing.disconnected) == (1, 1)
    assert pool.out == []


def test_a_replica_that_sentinel_hides_executed_nothing() -> None:
    """redis-py's Sentinel client makes READONLY an error of the connection: it is Unavailable all the same."""
    connection = Connection(hidden_readonly())
    with pytest.raises(Unavailable, match="is a replica"):
        run(connection)
    assert connection.disconnected == 1


@pytest.mark.parametrize(("code", "message"), AT_CONNECT.items())
def test_an_error_of_the_session_was_not_executed(code: str, message: str) -> None:
    """Redis answered a command that it does not serve yet, or not us: Unavailable with the right advice, and cut."""
    connection = Connection(parsed(message))
    with pytest.raises(Unavailable) as caught:
        run(connection)
    assert MEANINGS[code].advice in str(caught.value)
    assert connection.disconnected == 1


@pytest.mark.parametrize(("code", "message"), AT_CONNECT.items())
def test_an_error_of_the_handshake_says_what_to_do(code: str, message: str) -> None:
    """The same errors met while connecting carry the same advice."""
    with pytest.raises(Unavailable) as caught:
        run(Connection(), parsed(message))
    assert MEANINGS[code].advice in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "ERR Client sent AUTH, but no password is set",
        "ERR wrong number of arguments for 'auth' command",
    ],
)
def test_a_refused_password_is_said_whatever_the_code(message: str) -> None:
    """Redis answers some of them as a common ERR."""
    with pytest.raises(Unavailable) as caught:
        run(Connection(), parsed(message))
    assert MEANINGS["WRONGPASS"].advice in str(caught.value)


def test_all_meanings_are_tried_here() -> None:
    """No code has advice, or a cut, without a test."""
    assert MESSAGES.keys() | AT_CONNECT.keys() == MEANINGS.keys()
    assert {code for code, meaning in MEANINGS.items() if meaning.cut} == CUT


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
    assert MEANINGS["NOPERM"].advice in str(caught.value)


@pytest.mark.parametrize(
    "raw", [None, b"OK", [], ADVANCED[:3], [b"RENEWED", *ADVANCED[1:]]], ids=["nil", "text", "[]", "short", "status"]
)
def test_a_reply_of_another_version_breaks_the_contract(raw: object) -> None:
    """What is not this script's reply is ContractBroken, naming the script."""
    with pytest.raises(ContractBroken, match="grace_advance"):
        run(Connection(raw))
