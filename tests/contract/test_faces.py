"""Both faces are one: the pinned names, the same signatures and docstrings, and what does I/O is awaited."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import AsyncCoordinator, Coordinator, initialize
from coordinator.api.async_operations import AsyncClients, AsyncGrace, AsyncGrants
from coordinator.api.operations import Clients, Grace, Grants

if TYPE_CHECKING:
    from collections.abc import Callable

FACES = [(Coordinator, AsyncCoordinator), (Grace, AsyncGrace), (Clients, AsyncClients), (Grants, AsyncGrants)]
ENTER, LEAVE = "__enter__", "__exit__"
LOCAL = {
    "__init__", "check", "on_release", "on_grace_end", "on_move", "on_freed", "on_ended", "owner", "connect",
}  # fmt: skip
"""What does no I/O: plain in both faces."""
PAGES = {"expected_clients", "reclaimed_clients", "forfeited_clients", "list", "stale"}
BLOCKS = {"granting", "reclaiming"}
CONTEXTS = {"Granting", "AsyncGranting", "Iterator[Grant]", "AsyncIterator[Grant]"}
"""What a block is entered by: a class where it has to be quick, a generator elsewhere."""
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
    return re.sub(r"\bAsync(?=Iterator|Coordinator)|(?<=\bredis\.)asyncio\.", "", str(annotation))


def described(member: Any) -> list[tuple[str, object, object, str]]:
    """Return name, kind, default and annotation of each parameter, and of the result."""
    signature = inspect.signature(function(member))
    rows = [(p.name, p.kind, p.default, plainly(p.annotation)) for p in signature.parameters.values()]
    result = "a context" if signature.return_annotation in CONTEXTS else plainly(signature.return_annotation)
    return [*rows, ("return", None, None, result)]


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
            assert inspect.signature(made).return_annotation in CONTEXTS, name
            assert not inspect.iscoroutinefunction(made), f"{name} is entered, not awaited"
        elif name in PAGES:
            assert plainly(inspect.signature(made).return_annotation) != inspect.signature(made).return_annotation
            assert not inspect.iscoroutinefunction(made), f"{name} is iterated over, not awaited"
        else:
            assert inspect.iscoroutinefunction(made) is (name not in LOCAL), name
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
