"""What an error of redis-py means: whether the request was executed, what to do, and whether the connection stays.

One table by error code. Nothing is sent or read here.
"""

from __future__ import annotations

from typing import NamedTuple

import redis
from redis import exceptions

from coordinator import errors


class Meaning(NamedTuple):
    """What one error code of Redis means."""

    advice: str
    cut: bool = False
    """Whether the connection is cut. The next one may lead elsewhere: after a failover, to the new primary."""


MEANINGS = {
    "OOM": Meaning("Redis is out of memory: raise maxmemory or free some"),
    "READONLY": Meaning("this Redis is a replica: connect to the primary", cut=True),
    "LOADING": Meaning("Redis is still loading its data: wait", cut=True),
    "MASTERDOWN": Meaning("the replica lost its primary: wait for the failover or repair it", cut=True),
    "MISCONF": Meaning("Redis cannot persist: look at its log and disk"),
    "NOREPLICAS": Meaning("too few replicas are connected: repair them", cut=True),
    "BUSY": Meaning("Redis is busy with a script that is not ours: find who runs it"),
    "NOPERM": Meaning(
        "the ACL user lacks a right: give it those of deploy/redis/users.acl, for the keys of the namespace"
    ),
    "NOAUTH": Meaning("Redis asks for a password: put it into the URL"),
    "WRONGPASS": Meaning("user name or password is wrong: correct the URL"),
    "CLUSTERDOWN": Meaning("the cluster is down: repair it"),
    "TRYAGAIN": Meaning("the cluster moves slots: wait"),
}
"""What each error code means. Redis executed nothing of a request that it answered with one of them."""

# Redis does not answer NOPERM when a script runs a command that the user may not run. The first text is Redis 7.0's.
_REFUSED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
_PASSWORD = (exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError)


def code_of(error: BaseException) -> str:
    """Return the error code that Redis answered, the first word of its message; any word if it answered none."""
    code = getattr(error, "status_code", None) or str(error).split(" ", 1)[0].rstrip(":")
    if code not in MEANINGS and isinstance(error, _PASSWORD):
        return "WRONGPASS"  # its code is ERR: Redis has no password, or wants other arguments
    return str(code)


def is_cut_after(error: redis.ResponseError) -> bool:
    """Whether the connection on which Redis answered this error is cut."""
    meaning = MEANINGS.get(code_of(error))
    return meaning is not None and meaning.cut


def answered(error: redis.ResponseError) -> errors.CoordinatorError:
    """Return what an error means that Redis answered: nothing was executed, or script and library differ."""
    meaning = MEANINGS.get(code_of(error))
    if meaning is not None:
        return errors.Unavailable(f"{meaning.advice} ({error})")
    if str(error).startswith(_REFUSED_IN_SCRIPT):
        # What stood before the refused command was done. A repeat would be taken for one of a request that was
        # answered, so it is neither Unavailable nor OutcomeUnknown, which are sent again.
        return errors.ContractBroken(f"a script stopped half-way: {MEANINGS['NOPERM'].advice} ({error})")
    return errors.ContractBroken(f"Redis answered an error that no script of this version gives: {error}")


def unconnected(error: Exception) -> errors.CoordinatorError:
    """Return what an error means that came before anything was sent."""
    if isinstance(error, redis.ResponseError):
        return answered(error)
    return errors.Unavailable(f"{_advice(error, 'Redis cannot be reached: check that it runs and the URL')} ({error})")


def unanswered(error: Exception) -> errors.CoordinatorError:
    """Return what an error means that came after the send: the request was executed or not.

    It was certainly not executed when Redis refused the session, or when it is a replica. redis-py's Sentinel client
    hides the latter behind an error of the connection.
    """
    if isinstance(error, exceptions.BusyLoadingError | exceptions.AuthenticationError):
        return errors.Unavailable(f"{_advice(error, MEANINGS['LOADING'].advice)} ({error})")
    if isinstance(error.__context__, exceptions.ReadOnlyError):
        return answered(error.__context__)
    return errors.OutcomeUnknown(f"sent to Redis, but no answer came ({error}): repeating the same call is safe")


def unread(error: Exception) -> errors.Unavailable:
    """Return what an error means that came while events were read, which changes nothing."""
    return errors.Unavailable(f"{_advice(error, 'events cannot be read')} ({error})")


def _advice(error: Exception, otherwise: str) -> str:
    meaning = MEANINGS.get(code_of(error))
    return otherwise if meaning is None else meaning.advice
