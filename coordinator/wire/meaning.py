"""What an error of redis-py means: certainly not executed, not known, or script and library differ. One table."""

from __future__ import annotations

import redis
from redis import exceptions

from coordinator import errors

ADVICE = {
    "OOM": "Redis is out of memory: raise maxmemory or free some",
    "READONLY": "this Redis is a replica: connect to the primary",
    "LOADING": "Redis is still loading its data: wait",
    "MASTERDOWN": "the replica lost its primary: wait for the failover or repair it",
    "MISCONF": "Redis cannot persist: look at its log and disk",
    "NOREPLICAS": "too few replicas are connected: repair them",
    "BUSY": "Redis is busy with a script that is not ours: find who runs it",
    "NOPERM": "the ACL user lacks a right: give it those of deploy/redis/users.acl, for the keys of the namespace",
    "NOAUTH": "Redis asks for a password: put it into the URL",
    "WRONGPASS": "user name or password is wrong: correct the URL",
    "CLUSTERDOWN": "the cluster is down: repair it",
    "TRYAGAIN": "the cluster moves slots: wait",
}


# A command inside a script that the user may not run is no NOPERM; the first text is Redis 7.0's.
_REFUSED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")

# redis-py takes the code out of the message of some errors and answers a class of its own instead.
_CODES: tuple[tuple[type[redis.RedisError], str], ...] = (
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
)


def _code(error: BaseException) -> str:
    first = str(error).split(" ", 1)[0].rstrip(":")
    if first in ADVICE:
        return first
    if str(error).startswith("Authentication required"):
        return "NOAUTH"
    return next((code for kind, code in _CODES if isinstance(error, kind)), first)


def answered(error: redis.ResponseError) -> errors.CoordinatorError:
    """Map an error that Redis answered: nothing was executed, or script and library differ."""
    code = _code(error)
    if code in ADVICE:
        return errors.Unavailable(f"{ADVICE[code]} ({error})")
    if str(error).startswith(_REFUSED_IN_SCRIPT):
        # What stood before the refused command was done. A repeat would be taken for one of a request that was
        # answered, so it is neither Unavailable nor OutcomeUnknown, which are sent again.
        return errors.ContractBroken(f"a script stopped half-way: {ADVICE['NOPERM']} ({error})")
    return errors.ContractBroken(f"Redis answered an error that no script of this version gives: {error}")


def unconnected(error: Exception) -> errors.CoordinatorError:
    """Map what went wrong before anything was sent."""
    if isinstance(error, redis.ResponseError):
        return answered(error)
    advice = ADVICE.get(_code(error), "Redis cannot be reached: check that it runs and the URL")
    return errors.Unavailable(f"{advice} ({error})")


def unanswered(error: Exception) -> errors.CoordinatorError:
    """Map what went wrong after the send: the call was executed or not, unless Redis refused the whole session."""
    if isinstance(error, exceptions.BusyLoadingError | exceptions.AuthenticationError):
        return errors.Unavailable(f"{ADVICE.get(_code(error), ADVICE['LOADING'])} ({error})")
    return errors.OutcomeUnknown(f"sent to Redis, but no answer came ({error}): repeating the same call is safe")


def unread(error: Exception) -> errors.Unavailable:
    """Map what went wrong with a read of events, which changes nothing."""
    return errors.Unavailable(f"{ADVICE.get(_code(error), 'events cannot be read')} ({error})")


CUT = frozenset({"READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING", "CLUSTERDOWN"})
"""After these the connection is cut: it is one to a server that is no primary (any more), or not yet."""


def must_be_cut(error: redis.ResponseError) -> bool:
    """Tell whether the connection on which this was answered must not be used again."""
    return _code(error) in CUT
