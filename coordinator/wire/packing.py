"""How calls become bytes (RESP) and events come back: what both channels share."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from coordinator.protocol.call import Word, text
from coordinator.settings import CLOCK_STEP_MAX_SECONDS, milliseconds

if TYPE_CHECKING:
    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.protocol.keys import Keys
    from coordinator.settings import Settings

_SEVERAL = (b"client", b"upto")
"""Fields that an event may have several times: one event tells of up to 200 clients."""


@functools.lru_cache(maxsize=256)
def _prefix(command: bytes, script: bytes, key: bytes) -> bytes:
    """Return the words of a call that are always the same, packed once: command, script, number of keys, key."""
    return b"".join(_packed(word) for word in (command, script, b"1", key))


def _packed(word: Word) -> bytes:
    raw = word if type(word) is bytes else str(word).encode("utf-8", "surrogateescape")
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def packed(call: Call[Any], *, whole: bool = False) -> bytes:
    """Return the call as bytes: by the script's address, or `whole` when Redis has not got it."""
    script = call.script
    prefix = (
        _prefix(b"EVAL", script.source.encode(), call.key) if whole else _prefix(b"EVALSHA", script.address, call.key)
    )
    head, args = call.head.packed, call.args
    parts = [b"*%d\r\n%b$%d\r\n%b\r\n" % (5 + len(args), prefix, len(head), head)]
    for word in args:
        if type(word) is bytes:
            parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
        elif type(word) is int:
            digits = b"%d" % word
            parts.append(b"$%d\r\n%b\r\n" % (len(digits), digits))
        else:
            parts.append(_packed(word))
    return b"".join(parts)


def block_seconds(settings: Settings) -> float:
    """Return how long a blocking read of events waits: no longer than a node may be without a renewal."""
    return min(settings.heartbeat_seconds, CLOCK_STEP_MAX_SECONDS)


def reading(keys: Keys, after: str, block: float) -> tuple[Any, ...]:
    """Return the command that waits for events after the id `after`."""
    return ("XREAD", "BLOCK", milliseconds(block), "STREAMS", keys.key("events"), after)


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
