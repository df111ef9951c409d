"""Both faces are one: the pinned names, the same signatures and docstrings, and what does I/O is awaited."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import coordinator
from coordinator import AsyncCoordinator, Coordinator, GraceState, Grant, Operation, initialize
from coordinator.api.async_operations import AsyncClients, AsyncGrace, AsyncGrants
from coordinator.api.asynchronous import AsyncGranting
from coordinator.api.blocking import Granting
from coordinator.api.operations import Clients, Grace, Grants

if TYPE_CHECKING:
    from collections.abc import Callable

FACES = [
    (Coordinator, AsyncCoordinator), (Grace, AsyncGrace), (Clients, AsyncClients), (Grants, AsyncGrants),
    (Granting, AsyncGranting),
]  # fmt: skip
ENTER, LEAVE = "__enter__", "__exit__"
LOCAL = {
    "__init__", "check", "on_release", "on_grace_start", "on_grace_end", "on_move", "on_freed", "on_ended", "connect",
    "granting",
}  # fmt: skip
"""What does no I/O: plain in both faces. The context that `granting` gives asks when it is entered."""
PAGES = {"expected_clients", "reclaimed_clients", "forfeited_clients", "list", "stale"}
BLOCKS = {"reclaiming"}
PINNED = {
    Coordinator: """
        connect(url, *, node, scope='default', settings=None, metrics=None, predecessor_dead=False)
        __init__(redis, *, node, scope='default', settings=None, metrics=None, predecessor_dead=False)
        start()
        close()
        abandon()
        __enter__()
        granting(client)
        reclaiming(client)
        on_release(callback)
        on_grace_start(callback)
        on_grace_end(callback)
        on_move(callback)
        on_freed(callback)
        on_ended(callback)
    """,
    Grace: """
        start(expected=(), *, if_empty='wait', reason='')
        end(reason, *, if_epoch=None)
        check(operation)
        admit_reclaim(client)
        withdraw()
        complete_reclaim(client, locks=None)
        complete_reclaim_many(clients)
        view()
        expected_clients(epoch=None)
        reclaimed_clients(epoch=None)
        forfeited_clients(epoch=None)
        wait_in_force(timeout)
        wait_normal(timeout)
    """,
    Clients: """
        register(client, *, adapter, remote_addr='', ttl=0.0, verifier=None, principal=None)
        register_many(clients)
        unregister(client, generation=None)
        unregister_many(clients)
        cancel_disconnect(client)
        touch(client)
        touch_many(clients)
        get(client)
        list(adapter=None)
        count(adapter=None)
        pending_disconnects()
        increment_lock_count(client)
        decrement_lock_count(client)
        drop(client)
        revoke(client)
        stale(older_than)
    """,
    Grants: """
        begin(client)
    """,
}
"""The names that users rely on, as they were promised."""
FIELDS = {
    "GraceStarted": "epoch expected live forfeited bad",
    "GraceView": "state epoch revision in_force closing remaining_seconds expected_clients reclaimed_clients "
    "waiting_for started_at reason",
    "NodeView": "owner state epoch revision in_force closing remaining_seconds valid_for_seconds reason",
    "GracePeriod": "epoch reason started_at duration_seconds expected reclaimed forfeited",
    "ClientRegistration": "client_id adapter ttl registered_at last_seen remote_addr lock_count holder owner "
    "generation state must_reclaim",
    "Verdict": "allowed reason retry_after epoch provisional remaining_seconds raise_for_refusal",
    "ReclaimOutcome": "remaining closing lifted",
    "Release": "client_id generation reason adapter",
    "Move": "client_id to",
    "Settings": "grace_seconds heartbeat_seconds lease_seconds validity_seconds barrier_margin_seconds "
    "op_timeout_seconds claim_seconds retention_seconds max_connections max_connections_per_adapter adapters namespace",
}
"""What the values that users get and give have."""

each_face = pytest.mark.parametrize(("plain", "awaited"), FACES, ids=lambda face: face.__name__)


def public(face: type) -> dict[str, Any]:
    """Return what users see of a face, by the name in the synchronous one."""
    same = {"__aenter__": ENTER, "__aexit__": LEAVE}
    names = [name for name in dir(face) if not name.startswith("_")]
    special = [name for name in ("__init__", ENTER, LEAVE, *same) if name in vars(face)]
    return {same.get(name, name): inspect.getattr_static(face, name) for name in (*names, *special)}


def function(member: Any) -> Callable[..., Any]:
    """Return the function that a property or class method wraps."""
    wrapped: Callable[..., Any] = getattr(member, "fget", None) or getattr(member, "__func__", member)
    return wrapped


def plainly(annotation: object) -> str:
    """Return an annotation as the synchronous face spells it."""
    return re.sub(r"\bAsync(?=Iterator|Coordinator|Granting)|(?<=\bredis\.)asyncio\.", "", str(annotation))


def described(member: Any) -> list[tuple[str, object, object, str]]:
    """Return name, kind, default and annotation of each parameter, and of the result."""
    signature = inspect.signature(function(member))
    rows = [(p.name, p.kind, p.default, plainly(p.annotation)) for p in signature.parameters.values()]
    return [*rows, ("return", None, None, plainly(signature.return_annotation))]


@each_face
def test_both_faces_have_the_same_names_signatures_and_docstrings(plain: type, awaited: type) -> None:
    """Parameters with kinds, defaults and annotations, results but for `Async`, and docstrings are equal."""
    ours, theirs = public(plain), public(awaited)
    assert ours.keys() == theirs.keys()
    for name, member in ours.items():
        assert described(member) == described(theirs[name]), name
        assert inspect.getdoc(function(member)) == inspect.getdoc(function(theirs[name])), name
        assert type(member) is type(theirs[name]), name


@each_face
def test_what_does_io_is_awaited_and_nothing_else(plain: type, awaited: type) -> None:
    """Coroutines, async iterators and async context managers; what is local is a plain function in both faces."""
    for name, member in public(awaited).items():
        made = function(member)
        if name in BLOCKS:
            assert inspect.isasyncgenfunction(inspect.unwrap(made)), name
        elif name in PAGES:
            assert plainly(inspect.signature(made).return_annotation) != inspect.signature(made).return_annotation
            assert not inspect.iscoroutinefunction(made), f"{name} is iterated over, not awaited"
        else:
            is_local = name in LOCAL or isinstance(member, property)
            assert inspect.iscoroutinefunction(made) is not is_local, name
    for name, member in public(plain).items():
        assert not inspect.iscoroutinefunction(function(member)), name
        assert not inspect.isasyncgenfunction(inspect.unwrap(function(member))), name


@pytest.mark.parametrize("face", PINNED, ids=lambda face: face.__name__)
def test_the_pinned_names_are_there(face: type) -> None:
    """Every promised method with its parameters and defaults."""
    members = public(face)
    for line in PINNED[face].split("\n"):
        if not (line := line.strip()):
            continue
        name = line.partition("(")[0]
        given = inspect.signature(function(members[name])).parameters.values()
        bare = inspect.Signature([p.replace(annotation=p.empty) for p in given if p.name not in {"self", "cls"}])
        assert f"{name}{bare}" == line


def test_the_groups_are_reached_by_the_pinned_names() -> None:
    """`node.grace`, `node.clients` and `node.grants` of either face are that face's groups."""
    import redis.asyncio  # noqa: PLC0415  (only here)

    plain, awaited = Coordinator(redis.Redis(), node="n1"), AsyncCoordinator(redis.asyncio.Redis(), node="n1")
    assert (type(plain.grace), type(plain.clients), type(plain.grants)) == (Grace, Clients, Grants)
    groups = (type(awaited.grace), type(awaited.clients), type(awaited.grants))
    assert groups == (AsyncGrace, AsyncClients, AsyncGrants)
    plain.close()


def test_the_synchronous_groups_are_what_would_be_written() -> None:
    """No operation is written twice: operations.py is the twin of async_operations.py, run tools/sync_twin.py."""
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "sync_twin.py"))
    twin = tool["synchronous"](tool["SOURCE"].read_text(encoding="utf-8"))
    assert tool["TWIN"].read_text(encoding="utf-8") == twin
    assert "await" not in twin


def test_a_new_installation_is_told_by_a_function() -> None:
    """`coordinator.initialize` as promised: no start parameter."""
    bare = [p.replace(annotation=p.empty) for p in inspect.signature(initialize).parameters.values()]
    assert str(inspect.Signature(bare)) == "(url_or_client, *, scope='default', namespace='dittofs')"


def test_what_a_grant_is_made_of() -> None:
    """Whoever holds one may label the locks by owner and generation, and ends it."""
    assert {"owner", "generation", "confirm", "undo"} <= set(dir(Grant))


@pytest.mark.parametrize("name", FIELDS)
def test_the_values_have_the_pinned_fields(name: str) -> None:
    """By these names, whatever is added."""
    assert set(FIELDS[name].split()) <= set(dir(getattr(coordinator, name)))
    assert name in coordinator.__all__


def test_the_enums_are_as_pinned() -> None:
    """Upper-case members, lower-case values that compare as strings."""
    assert [member.value for member in GraceState] == ["normal", "active"]
    assert [member.value for member in Operation] == ["new", "reclaim", "test"]
    assert all(member == member.name.lower() for member in [*GraceState, *Operation])


def test_every_error_is_imported_from_the_package() -> None:
    """All of errors.py, each under CoordinatorError."""
    found = {
        name for name, kind in vars(coordinator.errors).items()
        if isinstance(kind, type) and issubclass(kind, coordinator.CoordinatorError)
    }  # fmt: skip
    assert found <= set(coordinator.__all__)
    assert len(found) > 15
