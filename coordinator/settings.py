"""Durations and limits of a node; refuses inconsistent ones (protocol, section 3). No environment, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from coordinator.errors import InvalidArgument, SettingsError
from coordinator.values import NODE_NAME

CLOCK_STEP_MAX_SECONDS = 2.0
CLOCK_DRIFT_MAX = 0.01
"""How much slower than the clock of Redis' machine a node's may run."""
HOME_PREFERENCE_SECONDS = 0.25
CLAIM_STOP_FRACTION = 0.65
"""Of a claim: after so much of it without a renewal its worker begins nothing more."""
CLAIM_RENEW_FRACTION = 0.15
"""Of a claim: after so much of it its node renews it."""
RETENTION_MIN_SECONDS = 1.0
TIMEOUT_MIN_SECONDS = 0.001
SECONDS_MAX = 10 * 365 * 86_400.0
TTL_MAX_SECONDS = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All figures of a node, in seconds; the defaults are DittoFS's where it has them.

    Raises SettingsError naming the value and the rule.
    """

    grace_seconds: float = 90.0
    heartbeat_seconds: float = 1.0
    lease_seconds: float = 6.0
    validity_seconds: float = 4.5
    barrier_margin_seconds: float = 2.5
    op_timeout_seconds: float = 0.4
    claim_seconds: float = 10.0
    retention_seconds: float = 86_400.0
    max_connections: int = 10_000
    max_connections_per_adapter: Mapping[str, int] = field(default_factory=dict)
    adapters: tuple[str, ...] = ("nfs", "smb", "nlm", "nsm")
    namespace: str = "dittofs"

    def __post_init__(self) -> None:
        """Check every rule."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_seconds") and not _is_positive(value):
                msg = f"{item.name}={value!r} must be a positive finite number of seconds (at most ten years)"
                raise SettingsError(msg)
        for name, kind in (("adapters", tuple), ("max_connections_per_adapter", Mapping)):
            if not isinstance(getattr(self, name), kind):
                msg = f"{name}={getattr(self, name)!r} must be a {kind.__name__.lower()}"
                raise SettingsError(msg)
        if not all(_is_word(name) for name in self.adapters):
            msg = f"adapters={self.adapters!r} must be words of A-Z a-z 0-9 . _ -"
            raise SettingsError(msg)
        rules = (
            ("grace_seconds", 0.010 <= self.grace_seconds <= 3600, "must be 10 ms to 1 h"),
            # Redis counts in whole milliseconds, and takes a block of 0 for "for ever".
            ("heartbeat_seconds", TIMEOUT_MIN_SECONDS <= self.heartbeat_seconds <= 1.5, "must be 1 ms to 1.5 s"),
            ("op_timeout_seconds", self.op_timeout_seconds >= TIMEOUT_MIN_SECONDS, "must be at least 1 ms"),
            (
                "heartbeat_seconds",
                self.heartbeat_seconds + 2 * self.op_timeout_seconds <= self.validity_seconds,
                (
                    f"plus 2 x op_timeout_seconds={self.op_timeout_seconds} must fit into "
                    f"validity_seconds={self.validity_seconds}"
                ),
            ),
            (
                "validity_seconds",
                self.validity_seconds < self.lease_seconds,
                f"must be less than lease_seconds={self.lease_seconds}",
            ),
            (
                "barrier_margin_seconds",
                self.barrier_margin_seconds > CLOCK_STEP_MAX_SECONDS,
                f"must exceed {CLOCK_STEP_MAX_SECONDS}, the greatest step of the scope clock",
            ),
            (
                "barrier_margin_seconds",
                self.validity_seconds / (1 - CLOCK_DRIFT_MAX) + CLOCK_STEP_MAX_SECONDS
                < self.lease_seconds + self.barrier_margin_seconds,
                (
                    f"plus lease_seconds={self.lease_seconds} must exceed validity_seconds={self.validity_seconds} "
                    f"on a clock that runs {CLOCK_DRIFT_MAX:.0%} slow, plus the greatest step, {CLOCK_STEP_MAX_SECONDS}"
                ),
            ),
            (
                "op_timeout_seconds",
                4 * self.op_timeout_seconds <= self.validity_seconds,
                f"must fit four times into validity_seconds={self.validity_seconds}",
            ),
            (
                "op_timeout_seconds",
                self.op_timeout_seconds <= CLOCK_STEP_MAX_SECONDS / 2,
                f"must be at most half the greatest step of the scope clock, {CLOCK_STEP_MAX_SECONDS}",
            ),
            (
                # One step of the scope clock takes 2 s of it. The worker's node renews it when CLAIM_RENEW_FRACTION has
                # passed; a heartbeat more is for that round trip.
                "claim_seconds",
                self.claim_seconds * (1 - CLAIM_RENEW_FRACTION) >= CLOCK_STEP_MAX_SECONDS + self.heartbeat_seconds,
                (
                    f"must be at least ({CLOCK_STEP_MAX_SECONDS} + heartbeat_seconds={self.heartbeat_seconds}) / "
                    f"{1 - CLAIM_RENEW_FRACTION:.2f}, so that one step of the scope clock cannot make two nodes run "
                    "one release"
                ),
            ),
            ("retention_seconds", self.retention_seconds >= RETENTION_MIN_SECONDS, "must be at least 1"),
            ("namespace", _is_word(self.namespace), "must be 1 to 64 of A-Z a-z 0-9 . _ -"),
            ("adapters", bool(self.adapters), "must name at least one adapter"),
            ("max_connections", _is_limit(self.max_connections), "must be a whole number of at least 1"),
            (
                "max_connections_per_adapter",
                all(_is_limit(limit) for limit in self.max_connections_per_adapter.values()),
                "must hold whole numbers of at least 1",
            ),
            (
                "max_connections_per_adapter",
                set(self.max_connections_per_adapter) <= set(self.adapters),
                f"may only name adapters={self.adapters}",
            ),
        )
        for name, holds, rule in rules:
            if not holds:
                msg = f"{name}={getattr(self, name)!r} {rule}"
                raise SettingsError(msg)

    def limit_of(self, adapter: str) -> int:
        """Return how many places `adapter` has in the scope; refuse an adapter that is not in `adapters`."""
        if adapter not in self.adapters:
            msg = f"adapter {adapter!r} is none of {', '.join(self.adapters)}"
            raise InvalidArgument(msg)
        return self.max_connections_per_adapter.get(adapter, self.max_connections)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < SECONDS_MAX


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_word(value: object) -> bool:
    return isinstance(value, str) and NODE_NAME.fullmatch(value) is not None


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least 1 for a positive duration."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


def ttl_ms(ttl: float) -> int:
    """Return a disconnect's TTL in ms; refuse NaN, negative and absurd ones."""
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not 0 <= ttl <= TTL_MAX_SECONDS:
        msg = f"ttl={ttl!r} must be 0 to {TTL_MAX_SECONDS:.0f} seconds"
        raise InvalidArgument(msg)
    return milliseconds(float(ttl))
