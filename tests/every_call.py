"""Every script but a first join, as a node would send it now: for what must be refused whatever is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordinator.protocol import Call, clients, grace, nodes, releases, script

if TYPE_CHECKING:
    from tests.world import Player


def every_call(player: Player, client: str, victim: str) -> list[Call[Any]]:
    """Return one call of each script, about this client, one of them to evict this owner; the join is a rejoin."""
    node, raw = player.node, client.encode()
    keys, head = node.keys, node.lease.head(node.now())
    generation = int(player.world.redis.hget(player.world.key("client", client), "generation") or 1)
    life = int(player.owner.rpartition(":")[2])
    claim = releases.own(player.owner, raw, generation, "nfs", "1")
    item = node.registering(client, "nfs", "", 0, "rebooted", None)
    calls: list[Call[Any]] = [
        *(
            clients.statuses(name, keys, head, (raw, *more))
            for name, more in (("client_hold", (generation,)), ("client_drop", (generation,)), ("client_touch", ()))
        ),
        clients.cancel(keys, head, raw, "request"),
        clients.page(keys, head, "nfs", "0", 10),
        clients.register(keys, head, [item]),
        clients.revoke(keys, head, raw, "revoked"),
        clients.unregister(keys, head, [(raw, 0)], 10_000),
        clients.view(keys, head, [raw]),
        grace.start(keys, head, node.name, [raw], "request", more=False, if_empty="wait", reason=b"x"),
        grace.end(keys, head, 0, b"x", "request"),
        grace.advance(keys, head, tight=True),
        grace.admit(keys, head, raw),
        grace.complete(keys, head, [raw], idle=True),
        grace.roster(keys, head, "expected", ("", "0"), 10),
        nodes.join(
            keys,
            replace(head, owner="", not_after_ms=0, writes=0),
            node.name,
            "boot",
            "dataset",
            node.settings,
            "version",
            ,
            predecessor_dead=False,
            after=life,
        ),
        nodes.renew(keys, head, 10**9),
        nodes.leave(keys, head),
        nodes.evict(keys, head, victim, tight=True),
        nodes.view(keys, head, ("nfs",)),
        releases.claim(keys, head, 100, 10_000, 0),
        releases.renew(keys, head, [claim], 10_000),
        releases.ack(keys, head, claim, ("nfs",)),
        releases.drain(keys, head, 100),
    ]
    assert sorted(call.script.name for call in calls) == list(script.names()), "a script is missing here"
    return calls
