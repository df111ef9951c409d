"""Scenario 33: two versions of the scripts work on one scope; what does not fit is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import ContractBroken, CoordinatorError, GraceState, Operation
from coordinator.protocol import nodes, script
from coordinator.protocol.call import Reply, view_of
from tests.every_call import every_call
from tests.world import TICK, World, all_released

if TYPE_CHECKING:
    from coordinator.protocol import Call
    from tests.world import Player

LAPSE = 9.5
LATER = {
    "reclaim_admit": ("scope, 'ADMITTED')", "scope, 'ADMITTED', 'a later field')"),
    "grace_advance": ("'ADVANCED')", "'ADVANCED', 'a later field')"),
    "release_renew": ("unpack(statuses))", "unpack(statuses)) -- later"),
    "client_register": ("SINCE, since)", "SINCE, since, 'zone', 'east')"),
    "node_join": ("'version', version,", "'version', version, 'zone', 'east',"),
}
"""What the later version changes beside the text of every script: fields of replies and of records, at the end."""


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a later, compatible version of the scripts."""
    folder = tmp_path_factory.mktemp("later") / "lua"
    shutil.copytree(script.lua_directory(), folder)
    for name in script.names():
        path = folder / f"{name}.lua"
        text = path.read_text(encoding="utf-8")
        old, new = LATER.get(name, ("", ""))
        assert old in text, f"{name} has changed: change this too"
        path.write_text(text.replace(old, new) + "\n-- a later version\n", encoding="utf-8")
        assert script.parse(name, folder).sha != script.load(name).sha
    return folder


class Watch:
    """Lets a world live in small steps, and looks at the invariants after each."""

    def __init__(self, world: World) -> None:
        """Begin at what is there."""
        self.world, self.newest = world, (0, 0, 0)

    def look(self) -> None:
        """No node grants while another may admit a reclaim, nor the other way round; nothing goes back."""
        world = self.world
        meta = world.redis.hgetall(world.key("meta"))
        view = view_of(meta[b"view"])
        for node in world.nodes:
            if node.alive and view.in_force:
                assert not node.check(Operation.NEW).allowed, "invariant 1: a new lock once the epoch is in force"
            elif node.alive and view.state is GraceState.NORMAL:
                assert not node.node.lease.snapshot.reclaims, "invariant 1: a reclaim once the epoch is lifted"
        newest = (int(meta[b"clock"]), view.revision, view.epoch)
        assert all(new >= old for new, old in zip(newest, self.newest, strict=True)), "invariant 3"
        self.newest = newest
        assert world.events().count("lift") <= newest[2], "invariant 4"

    def live(self, seconds: float) -> None:
        """Let time pass; every node hears and beats, one after the other."""
        for _ in range(round(seconds / TICK)):
            self.world.jump(TICK)
            for node in self.world.nodes:
                if node.alive:
                    node.listen()
                    self.look()
                    node.tick()
                    self.look()


@pytest.mark.parametrize("versions", [(0, 1, 0), (1, 0, 1), (0, 0, 1), (1, 1, 0)], ids=str)
def test_33_a_whole_failover_with_two_versions(world: World, later: Path, versions: tuple[int, int, int]) -> None:
    """Crash, barrier, reclaims, lift, release, hand-off and restart as the other version: all invariants hold."""
    folders = [later if version else None for version in versions]
    n1, n2, n3 = (world.node(f"n{i}", scripts=folder) for i, folder in enumerate(folders, 1))
    watch = Watch(world)
    for client in ("a", "b"):
        n1.register(client)
        n1.lock(client)
    n1.register("away", ttl=1)
    n1.unregister("away")
    n2.register("c")
    n2.lock("c")
    watch.live(2)
    assert ("away", "disconnect") in n1.released()
    n1.crash()
    watch.live(LAPSE)
    assert n2.view().in_force
    assert not n2.reclaim("a").closing
    watch.look()
    assert n3.reclaim("b").closing
    watch.look()
    watch.live(1)
    assert (n2.view().state, n2.view().epoch) == (GraceState.NORMAL, 1)
    n2.leave()
    watch.live(1)
    n2 = world.node("n2", scripts=None if folders[1] else later)  # upgraded, or rolled back
    for client, node in (("a", n2), ("c", n3)):
        node.reclaim(client)
        watch.look()
    watch.live(1)
    assert (n3.view().state, n3.view().epoch) == (GraceState.NORMAL, 2)
    n3.register("a")
    n3.unregister("a")
    watch.live(1)
    assert ("a", "disconnect") in all_released(world)
    assert world.events().count("lift") == 2
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n3.periods] == [(1, 2, 0), (2, 2, 0)]
    both = [script.load("node_renew").sha, script.parse("node_renew", later).sha]
    assert world.redis.script_exists(*both) == [True, True]


def outcome(call: Call[Any], reply: Reply) -> tuple[str, str]:
    """Return what a caller gets from a reply."""
    try:
        return "answer", repr(call.result(reply))
    except CoordinatorError as error:
        return type(error).__name__, str(error)


def with_data(reply: Reply, data: list[Any]) -> Reply:
    """Return a reply with other data."""
    status = next(word for word, name in reply.script.words.items() if name == reply.status)
    return Reply(reply.script, [status, reply.raw_view, reply.clock_ms, reply.writes, *data])


def replies(n1: Player) -> list[tuple[Call[Any], Reply]]:
    """Return a reply to each script; the calls that end this life come last."""
    n1.register("a")
    n1.lock("a")
    n1.start("x")
    calls = sorted(
        every_call(n1, "a", "nobody"), key=lambda call: call.script.name in {"node_join", "node_leave", "scope_lost"}
    )
    return [(call, n1.world.run(call)) for call in calls]


def test_33_trailing_data_is_tolerated_or_refused_by_name(world: World) -> None:
    """More data than this version knows: the same answer as without it, or ContractBroken that names the script."""
    for call, reply in replies(world.node("n1")):
        more = with_data(reply, [*reply.data, b"a later field"])
        kind, text = outcome(call, more)
        assert (kind, text) == outcome(call, reply) or (kind == "ContractBroken" and call.script.name in text)


def test_33_missing_data_is_refused_by_name(world: World) -> None:
    """Less data than this version needs never ends in anything but an error of this package, which names the script."""
    for call, reply in replies(world.node("n1")):
        kind, text = outcome(call, with_data(reply, reply.data[:-1]))
        assert kind != "ContractBroken" or call.script.name in text


@pytest.mark.parametrize(
    ("place", "value"), [(0, b"MAYBE"), (1, b"d 1 1 recovering 0 0 0 0"), (1, b"d 1 1"), (2, b"x"), (3, [])]
)
def test_33_a_head_of_another_version_is_refused_by_name(place: int, value: object) -> None:
    """A status, number or state of the scope that this version does not know."""
    head: list[object] = [b"ADVANCED", b"d 1 1 normal 0 0 0 0", 1, 1]
    loaded = script.load("grace_advance")
    assert Reply(loaded, head).view.epoch == 1
    head[place] = value
    with pytest.raises(ContractBroken, match="grace_advance"):
        _ = Reply(loaded, head).view


@pytest.mark.parametrize("mismatch", ["the scope's", "the node's"])
def test_33_an_incompatible_schema_is_refused_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch, mismatch: str
) -> None:
    """A node that speaks another schema does not join: the error names the scope's, and no key changes."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    if mismatch == "the scope's":
        world.redis.hset(world.key("meta"), "schema", "0")
    else:
        monkeypatch.setattr(nodes, "SCHEMA", "0")
    schema = (world.redis.hget(world.key("meta"), "schema") or b"").decode()  # type: ignore[union-attr]
    before = world.dump()
    with pytest.raises(ContractBroken, match=f"schema '{schema}'"):
        world.node("n2")
    with pytest.raises(ContractBroken, match=f"schema '{schema}'"):
        world.node("n1", dead=True)
    assert world.dump() == before
    world.pass_time(1)
    assert n1.check().allowed, "those that are in go on"
