"""What goes to Redis and comes back: keys, scripts, calls and replies. One function per operation; no I/O."""

from coordinator.protocol.call import Call, Head, Reply, View

__all__ = ["Call", "Head", "Reply", "View"]
