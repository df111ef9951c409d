"""Settings: every rule of the protocol's section 3, and the defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest

from coordinator import InvalidArgument, Settings, SettingsError
from coordinator.settings import TTL_MAX_SECONDS, milliseconds, ttl_ms

make: Callable[..., Settings] = Settings
"""Settings without its types: what is refused here is of the wrong type too."""
DURATIONS = [field.name for field in fields(Settings) if field.name.endswith("_seconds")]
NAN, INF = float("nan"), float("inf")


def test_the_defaults_are_the_designs() -> None:
    """Section 3 of the protocol and section 1 of the interfaces name these figures."""
    assert asdict(Settings()) == {
        "grace_seconds": 90.0,
        "heartbeat_seconds": 1.0,
        "lease_seconds": 6.0,
        "validity_seconds": 4.5,
        "barrier_margin_seconds": 2.5,
        "op_timeout_seconds": 0.4,
        "claim_seconds": 10.0,
        "retention_seconds": 86_400.0,
        "max_connections": 10_000,
        "max_connections_per_adapter": {},
        "adapters": ("nfs", "smb", "nlm", "nsm"),
        "namespace": "dittofs",
    }


@pytest.mark.parametrize("value", [NAN, INF, -INF, -1.0, 0, 0.0, True, "1", None], ids=repr)
@pytest.mark.parametrize("name", DURATIONS)
def test_no_duration_takes_what_is_no_duration(name: str, value: Any) -> None:
    """NaN, infinities, zero, negative numbers, booleans and other types are refused by name and value."""
    with pytest.raises(SettingsError) as caught:
        make(**{name: value})
    assert f"{name}={value!r} must be a positive finite number" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"grace_seconds": 0.009}, "grace_seconds=0.009"),
        ({"grace_seconds": 3600.5}, "grace_seconds=3600.5"),
        ({"heartbeat_seconds": 1.6}, "heartbeat_seconds=1.6"),
        ({"heartbeat_seconds": 0.0009}, "heartbeat_seconds=0.0009"),
        ({"op_timeout_seconds": 0.0009}, "op_timeout_seconds=0.0009"),
        ({"heartbeat_seconds": 1.5, "validity_seconds": 2.2}, "heartbeat_seconds=1.5"),
        ({"validity_seconds": 6.0}, "validity_seconds=6.0"),
        ({"lease_seconds": 4.5}, "validity_seconds=4.5"),
        ({"barrier_margin_seconds": 2.0}, "barrier_margin_seconds=2.0"),
        ({"validity_seconds": 5.999, "barrier_margin_seconds": 2.001}, "barrier_margin_seconds=2.001 plus"),
        ({"op_timeout_seconds": 0.4, "heartbeat_seconds": 0.5, "validity_seconds": 1.5}, "op_timeout_seconds=0.4"),
        (
            {"op_timeout_seconds": 1.01, "validity_seconds": 8.0, "lease_seconds": 9.0},
            "op_timeout_seconds=1.01 must be at most half",
        ),
        ({"claim_seconds": 1.0}, "claim_seconds=1.0 must be at least (2.0 + heartbeat_seconds=1.0) / 0.85"),
        ({"claim_seconds": 3.529}, "claim_seconds=3.529"),
        ({"claim_seconds": 2.4, "heartbeat_seconds": 0.1}, "claim_seconds=2.4"),
        ({"claim_seconds": 4.117, "heartbeat_seconds": 1.5}, "claim_seconds=4.117"),
        ({"retention_seconds": 0.5}, "retention_seconds=0.5"),
        ({"max_connections": 0}, "max_connections=0"),
        ({"max_connections": -1}, "max_connections=-1"),
        ({"max_connections": True}, "max_connections=True"),
        ({"max_connections": 1.5}, "max_connections=1.5"),
        ({"max_connections": NAN}, "max_connections=nan"),
        ({"max_connections": INF}, "max_connections=inf"),
        ({"max_connections_per_adapter": {"nfs": 0}}, "max_connections_per_adapter={'nfs': 0}"),
        ({"max_connections_per_adapter": {"nfs": True}}, "max_connections_per_adapter={'nfs': True}"),
        ({"max_connections_per_adapter": {"ftp": 5}}, "max_connections_per_adapter={'ftp': 5}"),
        ({"adapters": ()}, "adapters=()"),
        ({"adapters": ("nfs", "a b")}, "adapters=('nfs', 'a b')"),
        ({"adapters": ("nfs", "")}, "adapters=('nfs', '')"),
        ({"adapters": ("nfs", 5)}, "adapters=('nfs', 5)"),
        ({"adapters": (["nfs"],)}, "adapters=(['nfs'],)"),
        ({"adapters": (None,)}, "adapters=(None,)"),
    ],
    ids=str,
)
def test_each_rule_is_checked(given: dict[str, Any], named: str) -> None:
    """A value that breaks one rule is refused by an error that names the field and the value."""
    with pytest.raises(SettingsError) as caught:
        make(**given)
    message = str(caught.value)
    assert message.startswith(named)
    assert message[len(named)] in " ,"


@pytest.mark.parametrize("value", ["", "a b", "a:b", "a{b}", "a*", "a\n", "\xe9", "x" * 65, 5, None, b"raw"], ids=repr)
def test_a_namespace_is_a_word(value: Any) -> None:
    """What would break a key, its hash tag or a pattern is no namespace."""
    with pytest.raises(SettingsError) as caught:
        make(namespace=value)
    assert f"namespace={value!r} " in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"grace_seconds": 0.010},
        {"grace_seconds": 3600},
        {"heartbeat_seconds": 1.5},
        {"heartbeat_seconds": 0.001, "op_timeout_seconds": 0.001},
        {"heartbeat_seconds": 1.25, "op_timeout_seconds": 0.5, "validity_seconds": 2.25},
        {"op_timeout_seconds": 0.5, "heartbeat_seconds": 0.5, "validity_seconds": 2.0},
        {"barrier_margin_seconds": 2.001},
        {"validity_seconds": 5.999},
        {"claim_seconds": 3.53},
        {"claim_seconds": 2.48, "heartbeat_seconds": 0.1},
        {"claim_seconds": 4.12, "heartbeat_seconds": 1.5},
        {"retention_seconds": 1.0},
        {"max_connections": 1},
        {"max_connections_per_adapter": {"nfs": 1, "nsm": 2}},
        {"adapters": ("x",)},
        {"namespace": "A-z_0.9"},
        {"namespace": "x" * 64},
    ],
    ids=str,
)
def test_the_bounds_themselves_are_allowed(given: dict[str, Any]) -> None:
    """A value on its bound is taken as it is."""
    settings = make(**given)
    assert {name: getattr(settings, name) for name in given} == given


def test_a_namespace_of_punctuation_follows_the_rule_that_is_told() -> None:
    """What the message of the refusal allows is allowed."""
    assert make(namespace="_").namespace == "_"


def test_adapters_are_not_a_string() -> None:
    """A single name without its tuple is refused, not taken letter by letter."""
    with pytest.raises(SettingsError):
        make(adapters="nfs")


@pytest.mark.parametrize("name", ["adapters", "max_connections_per_adapter"])
def test_a_collection_is_not_none(name: str) -> None:
    """None is refused as a setting, by the error of settings."""
    with pytest.raises(SettingsError):
        make(**{name: None})


def test_settings_are_values() -> None:
    """They cannot be changed after they were checked, and take no positions."""
    with pytest.raises(FrozenInstanceError):
        Settings().grace_seconds = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        make(90.0)


def test_the_limit_of_an_adapter() -> None:
    """An adapter has its own limit or the common one."""
    settings = Settings(max_connections=7, max_connections_per_adapter={"smb": 3})
    assert [settings.limit_of(name) for name in settings.adapters] == [7, 3, 7, 7]


@pytest.mark.parametrize("adapter", ["ftp", "", "NFS", "nfs "])
def test_an_unknown_adapter_has_no_limit(adapter: str) -> None:
    """An adapter that is not in the list is refused by its name."""
    with pytest.raises(InvalidArgument, match=f"adapter '{adapter}' is none of nfs, smb, nlm, nsm"):
        Settings().limit_of(adapter)


@pytest.mark.parametrize("value", [-1, -0.001, NAN, INF, -INF, TTL_MAX_SECONDS + 1, 10**400, True, "5", None], ids=repr)
def test_a_ttl_out_of_range_is_refused(value: Any) -> None:
    """Negative, NaN, infinite, absurd and other values are refused by name and value."""
    with pytest.raises(InvalidArgument) as caught:
        ttl_ms(value)
    assert f"ttl={value!r} must be 0 to " in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "ms"), [(0, 0), (0.0, 0), (1e-9, 1), (0.25, 250), (30, 30_000), (TTL_MAX_SECONDS, 604_800_000)]
)
def test_a_ttl_in_milliseconds(seconds: float, ms: int) -> None:
    """Zero stays zero; a positive TTL never becomes zero."""
    assert ttl_ms(seconds) == ms
    assert milliseconds(seconds) == ms
