"""The errors are the tree of their docstring, and every status word of the scripts is accounted for."""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import coordinator
from coordinator import Reason, errors
from coordinator.protocol import clients, script
from coordinator.protocol.call import _REFUSALS, OPERATOR, Call, Head, Reply, check, refusal
from coordinator.values import refusal_of

ANSWERS = {
    "ACKED", "ADMITTED", "ADVANCED", "CANCELLED", "CLAIMED", "COMPLETED", "DRAINED", "DROPPED", "DUE", "ENDED",
    "EVICTED", "EXPECTED", "FORFEITED", "HOLDS", "INITIALIZED", "JOINED", "LEFT", "LOST", "OK", "PAGE",
    "REGISTERED", "RENEWED", "REVOKED", "STARTED", "TOUCHED", "VIEW", "WITHDRAWN", "YIELDED",
    # answers of another kind, which their calls return as values
    "ALIVE", "EMPTY", "GONE", "KNOWN", "LIVE", "NOT_DEFERRED", "STALE_TOKEN",
}  # fmt: skip
REFUSALS: dict[str, type[errors.CoordinatorError]] = {
    "DATA_LOST": errors.Fenced,
    "FENCED": errors.Fenced,
    "LATE": errors.Unavailable,
    "SCHEMA": errors.ContractBroken,
    "EXISTS": errors.ScopeExists,
    "MOVED": errors.RegistrationRefused,
    "UNKNOWN": errors.RegistrationRefused,
    "ADAPTER": errors.RegistrationRefused,
    "PRINCIPAL": errors.RegistrationRefused,
    "LIMIT": errors.ConnectionLimitReached,
    "RELEASING": errors.ClientReleasing,
    "HELD": errors.ClientHeld,
    "GRACE": errors.GraceActive,
    "BARRIER": errors.BarrierPending,
    "LATER": errors.BarrierPending,
    "NO_GRACE": errors.NoGrace,
    "NOT_ACTIVE": errors.NoGrace,
    "NOT_EXPECTED": errors.ReclaimRefused,
    "ALREADY": errors.ReclaimRefused,
    "STALE_EPOCH": errors.StaleEpoch,
}
DATA: dict[str, tuple[object, ...]] = {
    "LIMIT": (7, b"nfs"),
    "BARRIER": ([b"n2:1"],),
    "FENCED": (b"evicted",),
    "HELD": (0, b"n2:1"),
    "SCHEMA": (b"9",),
}
WORDS = sorted({(word, name) for name in script.names() for word in script.load(name).statuses})
VIEW = b"d 5 2 active 1 0 91000 200000"
FINAL = {"DATA_LOST", "FENCED", "SCHEMA", "EXISTS", "MOVED", "UNKNOWN", "ADAPTER", "PRINCIPAL", "NO_GRACE",
         "NOT_ACTIVE", "NOT_EXPECTED", "ALREADY"}  # fmt: skip
"""Refusals that the same request meets again, however often it is repeated."""
RETRY = re.compile(r"\bretry\b|\b(ask|try) again\b|\brepeat", re.IGNORECASE)


def reply(word: str, *data: object, name: str = "") -> Reply:
    """Return the reply of a script that has this status."""
    known = name or next(found for status, found in WORDS if status == word)
    return Reply(script.load(known), [word.encode(), VIEW, 1000, 3, *data])


def refused(word: str, *data: object) -> errors.CoordinatorError | None:
    """Return the error that a status word means, with its data."""
    return refusal(word, reply(word), data or DATA.get(word, (5,)))


def tree() -> dict[str, tuple[str, ...]]:
    """Return the names of the docstring's tree with the names of their bases."""
    bases: dict[str, tuple[str, ...]] = {"CoordinatorError": ("Exception",)}
    above = [(-1, "CoordinatorError")]
    for line in (errors.__doc__ or "").splitlines():
        column = line.find("+-")
        if column < 0:
            continue
        while above[-1][0] >= column:
            above.pop()
        found: list[tuple[str, str]] = re.findall(r"\+- (\w+)(?:\((\w+)\))?", line)
        for name, extra in found:
            assert name not in bases, f"{name} stands in the tree twice"
            bases[name] = (above[-1][1], extra) if extra else (above[-1][1],)
        above.append((column, found[-1][0]))
    return bases


def classes() -> dict[str, type[BaseException]]:
    """Return the classes of the module."""
    return dict(inspect.getmembers(errors, inspect.isclass))


def test_the_tree_is_the_classes() -> None:
    """Every class stands in the docstring's tree under its base, and nothing else does."""
    assert {name: tuple(base.__name__ for base in kind.__bases__) for name, kind in classes().items()} == tree()


def test_the_tree_is_read_whole() -> None:
    """The reader of the tree sees its levels and its second bases."""
    read = tree()
    assert len(read) == 21
    assert read["ClientHeld"] == ("Refused",)
    assert read["SettingsError"] == ("CoordinatorError", "ValueError")


def test_all_errors_are_public_and_explained() -> None:
    """Each error is exported by the package, explains itself and hides no built-in."""
    for name, kind in classes().items():
        assert getattr(coordinator, name) is kind
        assert name in coordinator.__all__
        assert kind.__doc__
        assert not hasattr(builtins, name)


@pytest.mark.parametrize(("word", "name"), WORDS)
def test_every_status_word_is_accounted_for(word: str, name: str) -> None:
    """A status word of a script's header is an answer that is listed here, or the one error of the table."""
    error = refusal(word, reply(word, name=name), DATA.get(word, (5,)))
    assert (word in ANSWERS) == (error is None), f"{word} of {name}"
    assert error is None or type(error) is REFUSALS[word]


def test_no_word_is_listed_in_vain() -> None:
    """Each word that is listed here or mapped in the table is answered by a script."""
    assert {word for word, _ in WORDS} == ANSWERS | REFUSALS.keys()
    assert _REFUSALS.keys() == REFUSALS.keys()


@pytest.mark.parametrize("word", sorted(REFUSALS))
def test_a_refusal_of_the_whole_call_is_raised(word: str) -> None:
    """`check` raises what the table says."""
    with pytest.raises(REFUSALS[word]):
        check(reply(word, *DATA.get(word, (5,))))


def test_refusals_carry_their_data() -> None:
    """What a script tells with its refusal reaches the user as attributes, times in seconds."""
    limit = refused("LIMIT", 7, b"nfs")
    assert isinstance(limit, errors.ConnectionLimitReached)
    assert (limit.adapter, limit.limit) == ("nfs", 7)
    barrier = refused("BARRIER", [b"n2:1", b"n3:4"])
    assert isinstance(barrier, errors.BarrierPending)
    assert barrier.waiting_for == ("n2:1", "n3:4")
    later = refused("LATER", 1500)
    assert isinstance(later, errors.BarrierPending)
    assert later.retry_after == 1.5
    releasing = refused("RELEASING", 250)
    assert isinstance(releasing, errors.ClientReleasing)
    assert releasing.retry_after == 0.25
    fenced = refused("FENCED", b"superseded")
    assert isinstance(fenced, errors.Fenced)
    assert fenced.reason == "superseded"
    lost = refused("DATA_LOST")
    assert isinstance(lost, errors.Fenced)
    assert lost.reason == "data_lost"
    held = refused("HELD", 0, b"n2:1")
    assert isinstance(held, errors.ClientHeld)
    assert held.home == "n2:1"
    assert held.retry_after > 0
    assert "n2:1" in str(held)


def test_refusals_carry_the_view_of_their_reply() -> None:
    """Whoever is refused by the epoch or the period learns which one it is, without asking again."""
    stale = refused("STALE_EPOCH")
    assert isinstance(stale, errors.StaleEpoch)
    assert stale.epoch == 2
    grace = refused("GRACE")
    assert isinstance(grace, errors.GraceActive)
    assert grace.epoch == 2
    assert 0 < grace.retry_after <= 1


@pytest.mark.parametrize("word", ["moved", "unknown", "adapter", "principal"])
def test_a_refused_registration_says_why_and_what_to_do(word: str) -> None:
    """The reason is data, and the message says more than the reason."""
    error = refused(word.upper())
    assert isinstance(error, errors.RegistrationRefused)
    assert error.reason == word
    assert f"({word})" in str(error)


@pytest.mark.parametrize("word", sorted(REFUSALS))
def test_only_what_may_help_is_advised(word: str) -> None:
    """A refusal that a repeat meets again does not advise one; one that passes by itself says when to ask again."""
    error = refused(word)
    assert error is not None
    assert str(error)
    if word in FINAL:
        assert not RETRY.search(str(error))
        assert not hasattr(error, "retry_after")
    else:
        assert hasattr(error, "retry_after") == (word not in {"LIMIT", "STALE_EPOCH", "LATE"})
    if hasattr(error, "retry_after"):
        assert RETRY.search(str(error))
        assert error.retry_after > 0


@pytest.mark.parametrize("reason", Reason)
def test_the_reason_of_a_check_means_one_error(reason: Reason) -> None:
    """An end is told as such, by its reason, and advises no repeat; what passes by itself is none."""
    error = refusal_of(reason, 0.5, 2)
    over = reason in {Reason.SUPERSEDED, Reason.EVICTED, Reason.DATA_LOST}
    assert isinstance(error, errors.Fenced) == over
    if isinstance(error, errors.Fenced):
        assert error.reason == reason.value
        what = "end this process" if reason is Reason.SUPERSEDED else "start a new one"
        assert what in str(error)
    if over or isinstance(error, errors.Closed):
        assert not RETRY.search(str(error))


HEAD = Head(OPERATOR, 0.0)
ITEM = clients.Registering(b"a", "nfs", 1, b"", 0, b"", b"")
BATCHES: dict[str, Callable[[], Call[Any]]] = {
    "register": lambda: clients.register(b"k", HEAD, [ITEM, ITEM]),
    "unregister": lambda: clients.unregister(b"k", HEAD, [(b"a", 0), (b"b", 0)], 1, 1),
    "cancel": lambda: clients.cancel(b"k", HEAD, [b"a", b"b"], own=False),
    "yield": lambda: clients.yield_(b"k", HEAD, [b"a", b"b"]),
    "hold": lambda: clients.hold(b"k", HEAD, [(b"a", 1), (b"b", 1)]),
    "touch": lambda: clients.touch(b"k", HEAD, [b"a", b"b"]),
}


def _status_of_the_call(call: Call[Any]) -> str:
    """Return what a script answers before the answers of the items."""
    return next(word for word in ("OK", "REGISTERED", "HOLDS", "TOUCHED") if word in call.script.statuses)


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("data", [(), (b"UNKNOWN",), ([b"UNKNOWN"],) * 3, (b"UNKNOWN",) * 3, (7, 7)], ids=repr)
def test_an_answer_for_another_number_of_clients_is_foreign(name: str, data: tuple[object, ...]) -> None:
    """Of two clients each gets its own answer, or the call none: never the answer of another one, and no IndexError."""
    call = BATCHES[name]()
    with pytest.raises(errors.ContractBroken):
        call.result(reply(_status_of_the_call(call), *data, name=call.script.name))


@pytest.mark.parametrize("name", BATCHES)
def test_a_status_of_one_client_that_the_script_does_not_know_is_no_success(name: str) -> None:
    """A script of another version answers a new word: an error that says so, whatever it may mean."""
    call = BATCHES[name]()
    known = _status_of_the_call(call)
    word = b"FROZEN" if name in {"hold", "touch"} else [b"FROZEN", 0, b"n1:1", b"", 0, b"nfs", 0]
    with pytest.raises(errors.ContractBroken, match="'FROZEN' is none of"):
        call.result(reply(known, word, word, name=call.script.name))
