"""Scenario 15: a node that is alive but cut off from Redis stops granting before anybody may reclaim its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from coordinator import BarrierPending, ClientHeld, Operation, Settings, SettingsError, StaleGrant
from coordinator.api.driving import drive
from tests.rounds import rounds
from tests.world import GRACE, Player, World

if TYPE_CHECKING:
    import redis

    from coordinator.protocol import Call


def renew_slowly(player: Player, there: float, back: float) -> float:
    """Renew with a request and a reply that take so many seconds; return the node time before it was sent."""
    world, sent = player.world, player.node.now()

    def run(call: Call[Any]) -> Any:
        world.jump(there)
        reply = world.run(call)
        world.jump(back)
        return reply

    drive(player.node.renew(), run, lambda _: None)
    return sent


def test_15_it_refuses_from_v_on_counted_from_before_the_send(world: World) -> None:
    """Still allowed just before V, refused from V on, however long request and reply were under way."""
    n3 = world.node("n3")
    n3.register("a")
    n3.lock("a")
    world.jump(1)
    end = renew_slowly(n3, 0.3, 0.4) + world.settings.validity_seconds
    n3.cut_off = True
    grant = n3.begin_lock("a")
    world.pass_time(end - 0.001 - world.time)
    assert n3.check().allowed
    n3.lock("a")
    grant.confirm()
    world.time = end
    world.settle()
    for operation in (Operation.NEW, Operation.RECLAIM):
        assert not n3.check(operation).allowed
    with pytest.raises(StaleGrant):
        grant.confirm()
    assert n3.check(Operation.TEST).provisional


def test_15_it_serves_again_when_the_cut_was_short(world: World) -> None:
    """Cut off for longer than V and back before its lease and margin ran out: no grace, its registrations stay."""
    n1, n3 = world.node("n1"), world.node("n3")
    n3.register("a")
    n3.lock("a")
    n3.cut_off = True
    world.pass_time(world.settings.validity_seconds + 1)
    assert not n3.check().allowed
    n3.cut_off = False
    world.pass_time(1)
    n3.lock("a")
    assert n1.view().epoch == 0


HOUR = 3_600_000
STEPS = st.one_of(st.integers(-2000, 2000), st.sampled_from([0, 2000, HOUR]))
TIGHT = {"lease": 6000, "margin": 2001, "there": 0, "cut_at": 0, "step_at": 50, "step": HOUR}
"""The least margin, and the greatest step of the clock while n3's lease runs."""


@given(
    lease=st.integers(2000, 12_000),
    validity=st.integers(1800, 12_000),
    margin=st.integers(1500, 4000),
    rate=st.floats(0.99, 1.01),
    rate_n1=st.floats(0.99, 1.01),
    there=st.integers(0, 350),
    back=st.integers(0, 1500),
    cut_at=st.integers(0, 1000),
    step=STEPS,
    step_at=st.integers(0, 100),
)
@example(**TIGHT, validity=5999, rate=1.0, rate_n1=1.0, back=0)
@example(**TIGHT, validity=5999, rate=0.99, rate_n1=1.01, back=0)
@example(**TIGHT, validity=5900, rate=1.0, rate_n1=1.0, back=400)
@example(**(TIGHT | {"margin": 2000}), validity=5999, rate=1.0, rate_n1=1.0, back=0)
@example(**(TIGHT | {"margin": 500}), validity=5900, rate=1.0, rate_n1=1.0, back=0)
@settings(
    max_examples=rounds(quick=25, full=100),
    deadline=None,
    derandomize=True,
    # The server is one for all examples; the world, with all that is in it, is made anew by each. Settings that are
    # refused are no example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
def test_15_n1_admits_reclaims_strictly_later(  # noqa: PLR0913, PLR0917  (what is drawn)
    client: redis.Redis,
    product: redis.Redis,
    namespace: str,
    lease: int,
    validity: int,
    margin: int,
    rate: float,
    rate_n1: float,
    there: int,
    back: int,
    cut_at: int,
    step: int,
    step_at: int,
) -> None:
    """With all settings that are accepted, n3 allows nothing any more at the first moment when n1 can admit.

    Whatever the moment of the cut, the delays of n3's last renewal, a drift of 1 % either way, and one step of the
    clock of Redis' machine at any moment: forward (2 s at the most reach the scope clock) or back (it stands still).
    """
    try:
        figures = Settings(
            namespace=namespace,
            grace_seconds=GRACE,
            lease_seconds=lease / 1000,
            validity_seconds=validity / 1000,
            barrier_margin_seconds=margin / 1000,
        )
    except SettingsError:
        reject()
    for key in client.scan_iter(f"{namespace}:*"):
        client.delete(key)
    world = World(client, namespace, product, figures)
    try:
        n1, n3 = world.node("n1", rate=rate_n1), world.node("n3", rate=rate)
        n3.register("a")
        n3.lock("a")
        world.jump(0.5)
        renew_slowly(n3, there / 1000, back / 1000)
        world.jump(cut_at / 1000)
        n3.cut_off = True
        grants = [n3.begin_lock("a")] if n3.check().allowed else []
        beat(n1)
        with pytest.raises(ClientHeld):
            n1.register("a")
        end = world.gone_at(n3)
        pass_quietly(n1, world.clock + (end - world.clock) * step_at // 100)
        if step > 0:
            world.step(step / 1000)
        else:
            world.time -= step / 1000
        pass_quietly(n1, end)
        if world.clock == end:
            assert not admits(n1, n3)
            world.jump(0.001)
        assert admits(n1, n3)
        for operation in (Operation.NEW, Operation.RECLAIM):
            assert not n3.check(operation).allowed
        for grant in grants:
            with pytest.raises(StaleGrant):
                grant.confirm()
    finally:
        world.close()


def beat(n1: Player) -> None:
    """Renew n1's lease."""
    n1.run(n1.node.renew())


def pass_quietly(n1: Player, clock_ms: int) -> None:
    """Let time pass up to a moment of the scope clock; n1 has renewed shortly before."""
    beat(n1)
    for moment in (clock_ms - 500, clock_ms):
        if n1.world.clock < moment:
            n1.world.jump((moment - n1.world.clock) / 1000)
            beat(n1)


def admits(n1: Player, n3: Player) -> bool:
    """Let n1 do what it can to reclaim for n3's client at this moment; tell whether it is admitted."""
    n1.run(n1.node.evict([n3.owner]))
    n1.run(n1.node.acknowledge())
    try:
        n1.register("a")
        n1.admit("a").confirm()
    except (ClientHeld, BarrierPending):
        return False
    return True
