"""The lease: how long it is valid, what it grants, how it ends. Time is passed in, so every rule is decided exactly."""

from __future__ import annotations

import pytest

from coordinator import GraceState, InvalidArgument, Operation, Reason
from coordinator.node.lease import Lease
from coordinator.protocol.call import NOTHING, View
from tests.unit.lease_cases import (
    CAP,
    CLOCK,
    CLOSING,
    END,
    ENDS,
    IN_FORCE,
    JUST,
    LIFTED,
    NORMAL,
    OWNER,
    RECEIVED,
    SENT,
    SETTINGS,
    STARTED,
    V,
    allows,
    head,
    joined,
    observe,
    renew,
    reply,
    view,
)

each_view = pytest.mark.parametrize("state", [NORMAL, STARTED, IN_FORCE, CLOSING], ids=lambda s: f"r{s.revision}")
each_grant = pytest.mark.parametrize(("state", "operation"), [(NORMAL, Operation.NEW), (IN_FORCE, Operation.RECLAIM)])


# -- validity -----------------------------------------------------------------------------------------------------


def test_validity_counts_from_before_the_join_was_sent() -> None:
    """A lease runs V from the send, whenever the reply came: open at its end, closed before."""
    lease = joined()
    assert allows(lease, Operation.NEW, END - JUST)
    assert not allows(lease, Operation.NEW, END)
    assert lease.is_valid(END - JUST)
    assert not lease.is_valid(END)
    assert lease.remaining(SENT) == V
    assert lease.remaining(END + 100) == 0.0


def test_validity_counts_from_before_the_renewal_was_sent() -> None:
    """A renewal extends by V from its send, not from its reply."""
    lease = joined()
    renew(lease, NORMAL, 12.0, 14.0, extended=True)
    assert allows(lease, Operation.NEW, 12.0 + V - JUST)
    assert not allows(lease, Operation.NEW, 12.0 + V)
    assert lease.renewed_at == 12.0


def test_a_renewal_that_does_not_extend_only_informs() -> None:
    """With extended=False the view is taken and the lease ends when it would have ended."""
    lease = joined()
    renew(lease, IN_FORCE, 12.0, 12.1, extended=False)
    assert lease.view == IN_FORCE
    assert not lease.is_valid(END)
    assert lease.renewed_at == SENT


def test_only_a_renewal_extends() -> None:
    """Replies of other scripts leave the lease as long as it was."""
    lease = joined()
    observe(lease, view(6, 2), 12.0, 12.1)
    assert lease.view.revision == 6
    assert not lease.is_valid(END)


def test_an_overtaken_renewal_does_not_shorten() -> None:
    """A renewal that was sent earlier and arrives later takes nothing away."""
    lease = joined()
    renew(lease, NORMAL, 12.0, 12.1, extended=True)
    renew(lease, NORMAL, 11.0, 12.2, extended=True)
    assert lease.is_valid(12.0 + V - JUST)
    assert lease.renewed_at == 12.0


def test_a_repeated_join_gives_no_validity() -> None:
    """After a join that is not fresh nothing is granted until a renewal extended the lease."""
    lease = joined(fresh=False)
    assert not allows(lease, Operation.NEW)
    renew(lease, NORMAL, 11.0, 11.1, extended=True)
    assert allows(lease, Operation.NEW, 11.1)


@each_view
def test_a_lapsed_lease_grants_nothing(state: View) -> None:
    """Not renewed in time: new locks and reclaims are refused as lapsed and retryable, in every state."""
    lease = joined(state)
    for operation in (Operation.NEW, Operation.RECLAIM):
        verdict = lease.check(operation, END)
        assert (verdict.allowed, verdict.reason) == (False, Reason.LEASE_LAPSED)
        assert verdict.retry_after > 0


def test_a_lapsed_lease_comes_back_with_a_renewal() -> None:
    """A lapse is no end: as long as nobody evicted the node, one renewal lets it go on."""
    lease = joined()
    assert not allows(lease, Operation.NEW, END + 60)
    assert not lease.is_over
    renew(lease, NORMAL, END + 60, END + 60.1, extended=True)
    assert allows(lease, Operation.NEW, END + 60.1)


@each_view
def test_a_lapsed_lease_still_tests(state: View) -> None:
    """A test is never refused."""
    assert allows(joined(state), Operation.TEST, END)


def test_a_lapsed_lease_tests_provisionally() -> None:
    """Without a valid view the answer to a test is marked provisional (protocol, section 6, table)."""
    assert joined().check(Operation.TEST, END).provisional


def test_before_the_join_nothing_but_tests() -> None:
    """A lease without an incarnation grants nothing, and says that it is joining."""
    lease = Lease(SETTINGS)
    assert lease.check(Operation.NEW, 0.0).reason is Reason.JOINING
    assert lease.check(Operation.RECLAIM, 0.0).reason is Reason.JOINING
    assert allows(lease, Operation.TEST, 0.0)
    assert lease.view is NOTHING
    assert not lease.is_over


def test_what_is_no_operation_is_refused() -> None:
    """Whatever the state, a word that is none of the three is an error of the caller, by name."""
    for lease in (Lease(SETTINGS), joined(), joined(IN_FORCE)):
        with pytest.raises(InvalidArgument, match=r"operation='write' must be one of new, reclaim, test"):
            lease.check("write", RECEIVED)  # type: ignore[arg-type]


# -- its end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ENDS)
@each_view
def test_what_has_ended_never_grants_again(state: View, reason: Reason) -> None:
    """No renewal, no reply and no join brings it back; every refusal tells the reason, and nothing is retryable."""
    lease = joined(state)
    assert lease.end(reason)
    assert lease.is_over
    renew(lease, LIFTED, 11.0, 11.1, extended=True)
    observe(lease, view(20, 9), 11.2, 11.3)
    lease.joined("n1:8", reply(view(21, 9)), 12.0, 12.1, fresh=True)
    assert lease.owner == OWNER
    assert lease.why_not is reason
    assert not lease.is_valid(12.1)
    for operation in (Operation.NEW, Operation.RECLAIM):
        assert lease.check(operation, 12.1).reason is reason
        assert not lease.still_allows(operation, OWNER, lease.view.epoch, RECEIVED)
    assert allows(lease, Operation.TEST, 12.1)


def test_the_first_reason_of_an_end_stays() -> None:
    """It ends once: whoever ends it again is told that it was no news."""
    lease = joined()
    assert [lease.end(reason) for reason in ENDS] == [True, False, False, False]
    assert lease.why_not is ENDS[0]


def test_what_ended_before_it_joined_does_not_begin() -> None:
    """Closed while the join was under way: its reply gives no validity and no owner."""
    lease = Lease(SETTINGS)
    lease.end(Reason.CLOSED)
    lease.joined(OWNER, reply(NORMAL), SENT, RECEIVED, fresh=True)
    assert (lease.owner, lease.check(Operation.NEW, RECEIVED).reason) == ("", Reason.CLOSED)


@each_view
def test_a_node_that_is_about_to_leave_grants_nothing_new(state: View) -> None:
    """Neither locks nor reclaims, whatever is told later; open grants are stale; it is no end yet, so it is asked."""
    lease = joined(state)
    lease.stop_granting()
    for _ in range(2):
        for operation in (Operation.NEW, Operation.RECLAIM):
            assert lease.check(operation, RECEIVED).reason is Reason.CLOSED
            assert not lease.still_allows(operation, OWNER, lease.view.epoch, RECEIVED)
        renew(lease, LIFTED, 11.0, 11.1, extended=True)
    assert not lease.is_over
    assert lease.is_valid(11.0)


# -- the table of the protocol, section 6 --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "new", "reclaim"),
    [
        (NORMAL, None, None),
        (STARTED, Reason.GRACE_ACTIVE, Reason.BARRIER_PENDING),
        (IN_FORCE, Reason.GRACE_ACTIVE, None),
        (CLOSING, Reason.GRACE_ACTIVE, Reason.BARRIER_PENDING),
        (LIFTED, None, None),
    ],
    ids=["normal", "started", "in_force", "closing", "lifted"],
)
def test_the_table_of_verdicts(state: View, new: Reason | None, reclaim: Reason | None) -> None:
    """Each state answers new, reclaim and test as the protocol's table says, with its epoch."""
    lease = joined(state)
    verdicts = {operation: lease.check(operation, RECEIVED) for operation in Operation}
    assert (verdicts[Operation.NEW].allowed, verdicts[Operation.NEW].reason) == (new is None, new)
    assert (verdicts[Operation.RECLAIM].allowed, verdicts[Operation.RECLAIM].reason) == (reclaim is None, reclaim)
    assert verdicts[Operation.TEST].allowed
    assert verdicts[Operation.TEST].provisional == (state.state is GraceState.ACTIVE)
    assert {verdict.epoch for verdict in verdicts.values()} == {state.epoch}


def test_an_operation_may_be_named_by_its_value() -> None:
    """A caller that has the word and not the member gets the same answer."""
    for state in (NORMAL, STARTED, IN_FORCE):
        lease = joined(state)
        for operation in Operation:
            assert lease.check(operation.value, RECEIVED) == lease.check(operation, RECEIVED)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "seconds"), [(STARTED, 200.0), (IN_FORCE, 90.0)], ids=["to the cap", "to the end"])
def test_a_refusal_in_a_period_tells_its_bound_and_when_to_ask_again(state: View, seconds: float) -> None:
    """The seconds to its end, its cap before it is in force, count down; asking makes sense each second, or then."""
    lease = joined(state)
    lease.renewed(head(RECEIVED), reply(state), RECEIVED, extended=True)
    for passed in (0.0, 3.0):
        verdict = lease.check(Operation.NEW, RECEIVED + passed)
        assert verdict.remaining_seconds == pytest.approx(seconds - passed)
        assert verdict.retry_after == 1.0
        assert lease.grace_remaining(RECEIVED + passed) == pytest.approx(seconds - passed)
    assert lease.grace_remaining(RECEIVED + seconds + 1) == 0.0


@pytest.mark.parametrize(("left", "retry_after"), [(0.7, 0.7), (0.0, 0.05), (-1.0, 0.05)])
def test_near_its_end_a_period_is_asked_about_when_it_ends(left: float, retry_after: float) -> None:
    """Not later than its end, and never at once again and again although the lift is a moment late."""
    lease = joined(view(7, 3, "active", in_force=True, until=CLOCK + 1000, cap=CAP))
    verdict = lease.check(Operation.NEW, RECEIVED + 1 - left)
    assert verdict.reason is Reason.GRACE_ACTIVE
    assert verdict.retry_after == pytest.approx(retry_after)
    assert verdict.remaining_seconds == pytest.approx(max(0.0, left), abs=1e-9)


def test_no_time_remains_when_normal() -> None:
    """Outside a period nothing remains."""
    assert joined().grace_remaining(RECEIVED) == 0.0


@pytest.mark.parametrize(
    ("state", "operation"),
    [
        (NORMAL, Operation.NEW),
        (NORMAL, Operation.RECLAIM),
        (NORMAL, Operation.TEST),
        (IN_FORCE, Operation.RECLAIM),
        (IN_FORCE, Operation.TEST),
    ],
)
def test_an_allowed_check_answers_an_object_that_exists(state: View, operation: Operation) -> None:
    """Two allowed checks give the verdict of the snapshot itself: nothing is made."""
    lease = joined(state)
    verdict = lease.check(operation, RECEIVED)
    assert verdict.allowed
    assert verdict is lease.check(operation, RECEIVED + 1)
    assert verdict is getattr(lease.snapshot, operation.value)


# -- confirm ---------------------------------------------------------------------------------------------------------


@each_grant
def test_a_grant_is_confirmed_while_nothing_changed(state: View, operation: Operation) -> None:
    """A check of this owner and epoch holds until the lease lapses."""
    lease = joined(state)
    assert lease.still_allows(operation, OWNER, state.epoch, END - JUST)
    assert not lease.still_allows(operation, OWNER, state.epoch, END)


@each_grant
def test_a_grant_of_another_owner_or_epoch_is_stale(state: View, operation: Operation) -> None:
    """Neither an earlier incarnation's grant nor one of another epoch is confirmed."""
    lease = joined(state)
    assert not lease.still_allows(operation, "n1:6", state.epoch, RECEIVED)
    assert not lease.still_allows(operation, OWNER, state.epoch - 1, RECEIVED)
    assert not lease.still_allows(operation, OWNER, state.epoch + 1, RECEIVED)


@each_grant
def test_a_grant_is_stale_after_an_event(state: View, operation: Operation) -> None:
    """An event makes open grants stale, before any reply says what has happened."""
    lease = joined(state)
    lease.told(state.revision + 1)
    assert not lease.still_allows(operation, OWNER, state.epoch, RECEIVED)


def test_a_grant_does_not_outlive_its_period() -> None:
    """A new lock of before a whole period is stale after it; a reclaim is stale from the close on."""
    lease = joined(NORMAL)
    for state in (STARTED, IN_FORCE):
        observe(lease, state, 11.0, 11.1)
        assert not lease.still_allows(Operation.NEW, OWNER, NORMAL.epoch, 11.1)
    assert lease.still_allows(Operation.RECLAIM, OWNER, IN_FORCE.epoch, 11.1)
    for state in (CLOSING, LIFTED):
        observe(lease, state, 11.2, 11.3)
        assert not lease.still_allows(Operation.RECLAIM, OWNER, IN_FORCE.epoch, 11.3)
    assert not lease.still_allows(Operation.NEW, OWNER, NORMAL.epoch, 11.3)
    assert lease.still_allows(Operation.NEW, OWNER, LIFTED.epoch, 11.3)
