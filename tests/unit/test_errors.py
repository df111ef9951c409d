"""The errors are the tree of their docstring, and every status word of the scripts is accounted for."""

from __future__ import annotations

import builtins
import inspect
import re

import pytest

import coordinator
from coordinator import errors
from coordinator.node.lease import NOTHING, Head
from coordinator.protocol import script
from coordinator.protocol.call import Reply, check, refusal
from coordinator.protocol.clients import statuses
from coordinator.protocol.keys import Keys

ANSWERS = {
    "ACKED", "ADMITTED", "ADVANCED", "CANCELLED", "CLAIMED", "COMPLETED", "DRAINED", "DROPPED", "DUE", "ENDED",
    "EVICTED", "HELD", "JOINED", "LEFT", "OK", "PAGE", "REGISTERED", "RENEWED", "REVOKED", "STARTED", "TOUCHED",
    "VIEW",
    # answers of another kind, which their calls return as values
    "ALIVE", "NOT_DEFERRED", "STALE_TOKEN",
}  # fmt: skip
REFUSALS: dict[str, type[errors.CoordinatorError]] = {
    "DATA_LOST": errors.DataLost,
    "FENCED": errors.Fenced,
    "LATE": errors.Unavailable,
    "SCHEMA": errors.ContractBroken,
    "MOVED": errors.RegistrationRefused,
    "UNKNOWN": errors.RegistrationRefused,
    "ADAPTER": errors.RegistrationRefused,
    "PRINCIPAL": errors.RegistrationRefused,
    "LIMIT": errors.ConnectionLimitReached,
    "RELEASING": errors.ClientReleasing,
    "BARRIER": errors.BarrierPending,
    "LATER": errors.BarrierPending,
    "NO_GRACE": errors.NoGrace,
    "NOT_ACTIVE": errors.NoGrace,
    "NOT_EXPECTED": errors.ReclaimRefused,
    "ALREADY": errors.ReclaimRefused,
    "STALE_EPOCH": errors.StaleEpoch,
}
DATA: dict[str, tuple[object, ...]] = {"LIMIT": (7, b"nfs"), "BARRIER": ([b"n2:1"],), "FENCED": (b"evicted",)}
WORDS = sorted({(word, name) for name in script.names() for word in script.load(name).statuses})


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
    assert len(read) == 20
    assert read["DataLost"] == ("Unavailable",)
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
    error = refusal(word, NOTHING, DATA.get(word, (5,)))
    assert (word in ANSWERS) == (error is None), f"{word} of {name}"
    assert error is None or type(error) is REFUSALS[word]


def test_no_word_is_listed_in_vain() -> None:
    """Each word that is listed here or mapped there is answered by a script."""
    assert {word for word, _ in WORDS} == ANSWERS | REFUSALS.keys()


@pytest.mark.parametrize("word", sorted(REFUSALS))
def test_a_refusal_of_the_whole_call_is_raised(word: str) -> None:
    """`check` raises what the table says."""
    with pytest.raises(REFUSALS[word]):
        check(Reply(script.load("scope_view"), word, NOTHING, DATA.get(word, (5,))))


def test_refusals_carry_their_data() -> None:
    """What a script tells with its refusal reaches the user as attributes, times in seconds."""
    limit = refusal("LIMIT", NOTHING, (7, b"nfs"))
    assert isinstance(limit, errors.ConnectionLimitReached)
    assert (limit.adapter, limit.limit) == ("nfs", 7)
    barrier = refusal("BARRIER", NOTHING, ([b"n2:1", b"n3:4"],))
    assert isinstance(barrier, errors.BarrierPending)
    assert barrier.waiting_for == ("n2:1", "n3:4")
    later = refusal("LATER", NOTHING, (1500,))
    assert isinstance(later, errors.BarrierPending)
    assert later.retry_after == 1.5
    releasing = refusal("RELEASING", NOTHING, (250,))
    assert isinstance(releasing, errors.ClientReleasing)
    assert releasing.retry_after == 0.25
    fenced = refusal("FENCED", NOTHING, (b"superseded",))
    assert isinstance(fenced, errors.Fenced)
    assert fenced.reason == "superseded"


@pytest.mark.parametrize("word", ["moved", "unknown", "adapter", "principal"])
def test_a_refused_registration_says_why_and_what_to_do(word: str) -> None:
    """The reason is data, and the message says more than the reason."""
    error = refusal(word.upper(), NOTHING)
    assert isinstance(error, errors.RegistrationRefused)
    assert error.reason == word
    assert f"({word})" in str(error)


def test_a_status_of_one_client_that_the_script_does_not_know_is_no_success() -> None:
    """A script of another version answers a new word: an error that says so, whatever it may mean."""
    touch = statuses("client_touch", Keys("n", "s"), Head("", 0, "", 0, 0, 0, 0.0), (b"a", b"b"))
    with pytest.raises(errors.ContractBroken, match="'FROZEN' is none of"):
        touch.parse(Reply(touch.script, "OK", NOTHING, (b"TOUCHED", b"FROZEN")))
