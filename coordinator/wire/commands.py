"""Commands as the bytes that are sent, and the events that XREAD answers. No connection here.

A command is packed once per script as far as it never changes: `EVALSHA`, the script's address, the number of keys and
the key. redis-py would pack all of it again for each call, which took a tenth of the call's CPU.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from coordinator.protocol.call import text
from coordinator.settings import CLOCK_STEP_MAX_SECONDS, milliseconds

if TYPE_CHECKING:
    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.settings import Settings

_SEVERAL = (b"client", b"upto")
"""Fields that an event may have several times: one event tells of up to 200 clients."""
_FIXED_WORDS = 5
"""The words of a command before the arguments: EVALSHA, address, number of keys, key, head."""


def packed(call: Call[Any]) -> bytes:
    """Return the command that runs the call's script by its address."""
    return _packed(_prefix(call.script.sha, call.key), call)


def packed_whole(call: Call[Any]) -> bytes:
    """Return the command that runs the call's script by its source, for a Redis that does not know the address."""
    return _packed(_words(b"EVAL", call.script.source.encode(), b"1", call.key), call)


@functools.lru_cache(maxsize=1024)
def _prefix(sha: str, key: bytes) -> bytes:
    return _words(b"EVALSHA", sha.encode(), b"1", key)


def _words(*words: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _packed(prefix: bytes, call: Call[Any]) -> bytes:
    head, args = call.head.packed, call.args
    parts = [b"*%d\r\n%b$%d\r\n%b\r\n" % (_FIXED_WORDS + len(args), prefix, len(head), head)]
    for word in args:
        if isinstance(word, bytes):
            raw = word
        elif isinstance(word, str):
            raw = word.encode("utf-8", "surrogateescape")  # as `text` decoded it
        else:
            raw = b"%d" % word
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def block_seconds(settings: Settings) -> float:
    """Return how long a blocking read of events waits: no longer than a node may be without a renewal."""
    return min(settings.heartbeat_seconds, CLOCK_STEP_MAX_SECONDS)


def reading(key: bytes, after: str, block: float) -> tuple[Any, ...]:
    """Return the words of the command that waits for events after the id `after`."""
    return ("XREAD", "BLOCK", milliseconds(block), "STREAMS", key, after)


def events_of(raw: Any) -> list[Event]:
    """Parse what XREAD answered: id, kind and fields of each event, and the clients that it names."""
    events = []
    for identifier, fields in raw[0][1] if raw else ():
        event: dict[str, bytes] = {}
        clients: list[bytes] = []
        pairs = iter(fields)
        for name, value in zip(pairs, pairs, strict=True):
            if name in _SEVERAL:
                clients.append(value)
            else:
                event[text(name)] = value
        events.append((text(identifier), text(event.get("kind", b"")), event, clients))
    return events
