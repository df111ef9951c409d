"""One function per operation, each returning a Call: a round trip, described. No I/O here."""

from coordinator.calls.base import Call, Reply

__all__ = ["Call", "Reply"]
