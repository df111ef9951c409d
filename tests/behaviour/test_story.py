"""The story of protocol.md, section 1: two nodes and one lock store grant the same exclusive lock twice.

Without the coordinator the second node takes live locks for leftovers; with it, it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from coordinator import GraceActive, Release
from tests.world import World


@dataclass
class LockStore:
    """Exclusive locks on byte ranges, shared by all nodes; labelled with the client, owner and generation."""

    held: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def insert(self, what: str, client: str, owner: str, generation: int) -> bool:
        """Take a lock unless another client has it."""
        holder = self.held.get(what)
        if holder is not None and holder[0] != client:
            return False
        self.held[what] = (client, owner, generation)
        return True

    def free(self, release: Release) -> None:
        """Free what a release callback names (protocol, section 7)."""
        for what, (client, _, generation) in list(self.held.items()):
            if client == release.client_id and generation <= release.generation:
                del self.held[what]


class LonelyNode:
    """A file server with the upstream logic: grace in its own memory, leftovers deleted when its grace ends."""

    def __init__(self, store: LockStore) -> None:
        """Start: whatever is in the store must be left over from before."""
        self.store = store
        self.leftovers = dict(store.held)

    def end_grace(self) -> None:
        """Nobody reclaimed here, so the leftovers go."""
        for what in self.leftovers:
            self.store.held.pop(what, None)


def test_story_without_the_coordinator_the_lock_is_granted_twice() -> None:
    """Node B starts, takes A's live lock for a leftover, deletes it after its grace and grants the range again."""
    store = LockStore()
    assert store.insert("file:0-10", "alice", "node-a", 1)
    node_b = LonelyNode(store)
    node_b.end_grace()
    assert store.insert("file:0-10", "bob", "node-b", 1), "granted while alice believes to have it"


def test_story_with_the_coordinator_it_is_not(world: World) -> None:
    """Node B's start frees nothing; bob is refused while alice lives, and after her node died until she forfeits."""
    store = LockStore()
    a = world.node("node-a")
    a.register("alice")
    grant = a.begin_lock("alice")
    assert store.insert("file:0-10", "alice", grant.owner, grant.generation)
    grant.confirm()

    b = world.node("node-b")
    assert b.start("alice").epoch is None, "it found alice's lock in the store: she is served, nobody is waited for"
    world.settle()
    b.register("bob")
    grant = b.begin_lock("bob")
    assert not store.insert("file:0-10", "bob", grant.owner, grant.generation)
    b.unlock("bob")

    a.crash()
    world.pass_time(10)
    with pytest.raises(GraceActive):
        b.begin_lock("bob")
    b.register("alice")
    grant = b.admit("alice")
    assert store.insert("file:0-10", "alice", grant.owner, grant.generation)
    grant.confirm()
    b.complete("alice")
    world.settle()
    grant = b.begin_lock("bob")
    assert not store.insert("file:0-10", "bob", grant.owner, grant.generation), "alice has reclaimed it"
    b.unlock("bob")

    b.unregister("alice")
    for release in b.releases:
        store.free(release)
    grant = b.begin_lock("bob")
    assert store.insert("file:0-10", "bob", grant.owner, grant.generation)
    grant.confirm()
