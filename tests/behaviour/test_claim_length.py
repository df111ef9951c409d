"""A claim is long enough: one step of the clock of Redis' machine never makes two nodes run one release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator import Settings, SettingsError
from coordinator.api.driving import drive
from coordinator.node import Sleep, Wait
from coordinator.settings import CLOCK_STEP_MAX_SECONDS, HOME_PREFERENCE_SECONDS
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.world import Player

MS = 0.001
"""What time moves at the least."""


def least(heartbeat: float) -> float:
    """Return the least claim that the rule of the settings allows, to the millisecond."""
    milliseconds = 1
    while True:
        try:
            Settings(heartbeat_seconds=heartbeat, claim_seconds=milliseconds / 1000)
        except SettingsError:
            milliseconds += 1
        else:
            return milliseconds / 1000


class Punctual:
    """Runs a node's keeper exactly when it is due or woken, never earlier: the latest that a living node acts."""

    def __init__(self, player: Player) -> None:
        """Take the keeper over."""
        self.player = player
        self._flow = player.keeper.run()
        self.until = 0.0
        self._is_woken = False
        player.node.wake = self._wake

    def _wake(self) -> None:
        self._is_woken = True

    def act(self) -> None:
        """Hear what there is to hear, and go on until there is nothing to do."""
        self.player.listen()
        while self._is_woken or self.player.node.now() >= self.until:
            self._is_woken = False
            self._run()

    def _run(self) -> None:
        def rest(request: Sleep | Wait) -> None:
            if isinstance(request, Wait):
                self.until = request.until
                raise Waits

        try:
            drive(self._flow, self.player.send, rest)
        except Waits:
            self._flow = self.player.keeper.run()


class Waits(Exception):
    """The keeper has nothing to do now."""


@pytest.fixture
def world(client: redis.Redis, product: redis.Redis, namespace: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """Give a scope whose claims are as short as the settings allow."""
    heartbeat = request.param
    settings = Settings(namespace=namespace, heartbeat_seconds=heartbeat, claim_seconds=least(heartbeat))
    made = World(client, namespace, product, settings)
    yield made
    made.close()


def begun_elsewhere(world: World, worker: Player, home: Player, *, phase: float, step: float) -> bool:
    """Have a release run for longer than a claim while the clock makes one step; tell whether it begins once more.

    `phase` is how long after a heartbeat of its worker it comes due, `step` how long after that the clock is set.
    """
    players = world.nodes
    acting = [Punctual(player) for player in reversed(players)]  # at the same moment the worker is the last

    def go_on(seconds: float) -> None:
        end = world.time + seconds
        while world.time < end - MS / 2:
            soonest = min(one.until for one in acting)
            world.jump(max(MS, min(end, soonest) - world.time))
            for one in acting:
                one.act()

    home.register("a")
    for player in players:
        player.node.claims_releases = player is worker
        player.run(player.node.renew())
        player.keeper._beat_at = player.node.now() + world.settings.heartbeat_seconds * (1 if player is worker else 0.5)
    go_on(phase)
    home.unregister("a")
    for _ in range(100):
        if not worker.held_back:
            go_on(HOME_PREFERENCE_SECONDS / 10)  # its home is preferred at first
    (claim,) = worker.held_back
    for player in players:
        player.node.claims_releases = True
    go_on(step)
    world.step(CLOCK_STEP_MAX_SECONDS)
    go_on(world.settings.claim_seconds)
    elsewhere = any(player.held_back for player in players if player is not worker)
    for player in players:
        for held in player.held_back:
            player.run(player.keeper.done(held))
        player.held_back.clear()
        player.run(player.node.renew())
    assert elsewhere or claim.client not in worker.keeper.claims
    return elsewhere


@pytest.mark.parametrize("world", [0.3, 1.0, 1.5], indirect=True, ids=lambda heartbeat: f"heartbeat {heartbeat}")
@pytest.mark.parametrize("at", ["its home", "another node"])
def test_24_one_step_of_the_clock_never_makes_a_release_run_on_two_nodes(world: World, at: str) -> None:
    """With the shortest claim that is allowed, and whenever within a heartbeat it begins and the clock is set on."""
    worker, second, third = (world.node(name) for name in ("n1", "n2", "n3"))
    for player in (worker, second, third):
        player.callback = False
    home, heartbeat = (worker if at == "its home" else second), world.settings.heartbeat_seconds
    moments = [heartbeat * part / 5 for part in range(5)]
    found = [
        (phase, step)
        for phase in moments
        for step in moments
        if begun_elsewhere(world, worker, home, phase=phase, step=step)
    ]
    assert found == []
