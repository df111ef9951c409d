"""What tests of lost data share: losing them, starting servers again, and the full grace that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import BarrierPending, Fenced, Reason
from tests.backup import Backup, erase
from tests.world import GRACE, Player, World

if TYPE_CHECKING:
    from coordinator.protocol import Call

LEASE_AND_MARGIN = 8.5


def holder(player: Player, client: str, **facts: Any) -> int:
    """Let a client lock at a node; return its generation."""
    generation = player.register(client, **facts).generation
    player.lock(client)
    return generation


def backup(world: World) -> Backup:
    """Take a copy of all data."""
    return Backup(world.redis, world.settings.namespace)


def flush(world: World) -> None:
    """Lose everything."""
    erase(world.redis, world.settings.namespace)


def counters(world: World) -> dict[str, int]:
    """Return what must never go back."""
    meta: Any = world.redis.hgetall(world.key("meta"))
    view = meta[b"view"].split()
    return {
        "clock": int(meta[b"clock"]),
        "revision": int(view[1]),
        "epoch": int(view[2]),
        "incarnation": int(meta[b"incarnation"]),
        "generation": int(meta[b"generation"]),
    }


def answers(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that takes the answers to all that is told of a loss."""
    heard: list[str] = []
    run = world.run

    def recording(call: Call[Any]) -> Any:
        reply = run(call)
        if call.script.name == "scope_lost":
            heard.append(reply.status)
        return reply

    monkeypatch.setattr(world, "run", recording)
    return heard


def restart(world: World, *names: str) -> list[Player]:
    """Start the servers of nodes whose life has ended again."""
    return [world.node(name, new=False) for name in names]


def all_are_over(*players: Player) -> None:
    """Check that these nodes' lives have ended by the loss, and that their servers were told once."""
    for player in players:
        assert player.ended == ["data_lost"]
        assert player.check().reason is Reason.DATA_LOST
        with pytest.raises(Fenced, match="data_lost"):
            player.view()


def full_grace(world: World, began: int, back: dict[str, Player], forfeited: list[str]) -> None:
    """Nothing is in force before L + M; these reclaim; no early exit; the rest is forfeited when the period is over."""
    players = [player for player in world.nodes if player.alive and not player.node.lease.is_over]
    for player in players:
        assert not player.check().allowed
    if not players[0].view().in_force:
        world.reach(began + round(LEASE_AND_MARGIN * 1000) - 1)
        world.settle()
        for client, player in back.items():
            player.register(client)
            with pytest.raises(BarrierPending):
                player.admit(client)
        world.pass_time(0.4)
    view = players[0].view()
    assert view.in_force
    for client, player in back.items():
        assert not player.reclaim(client).closing, "no early exit"
    assert set(players[0].expected()) == set(forfeited)
    view_ = (world.redis.hget(world.key("meta"), "view") or b"").split()
    in_force, reclaim_until = int(view_[4]), int(view_[6])
    assert reclaim_until - in_force >= GRACE * 1000
    world.reach(reclaim_until - 1)
    world.settle()
    assert not any(player.check().allowed for player in players)
    world.pass_time(0.8)
    assert all(player.check().allowed for player in players)
    assert world.events().count("lift") >= 1
    world.pass_time(1)
    freed = [release for player in players for release in player.releases]
    assert sorted((r.client_id, r.reason) for r in freed if r.client_id != "x") == [(c, "forfeited") for c in forfeited]
    assert {client: owner for client, (owner, _) in world.rights().items()} == {
        client: player.owner for client, player in back.items()
    }
