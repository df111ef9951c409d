"""The lease: time is passed in, so every rule is decided exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import GraceState, Operation, Reason, Settings
from coordinator.node.lease import Head, Lease, State

SETTINGS = Settings()
V = SETTINGS.validity_seconds
SENT, RECEIVED = 10.0, 10.2
END = SENT + V
"""Node time at which the lease of `joined` lapses."""
JUST = 0.001
CLOCK = 100_000
OWNER = "n1:7"

NORMAL = State(
    CLOCK, "d1", 5, 2, GraceState.NORMAL, 3, in_force=False, closing=False, reclaim_until_ms=0, cap_ms=0
)  # fmt: skip
STARTED = replace(NORMAL, revision=6, epoch=3, state=GraceState.ACTIVE, cap_ms=CLOCK + 200_000)
IN_FORCE = replace(STARTED, revision=7, in_force=True, reclaim_until_ms=CLOCK + 90_000)
CLOSING = replace(IN_FORCE, revision=8, closing=True)
LIFTED = replace(NORMAL, revision=9, epoch=3)


def joined(state: State = NORMAL) -> Lease:
    """Return a lease that began with `state`."""
    lease = Lease(SETTINGS)
    lease.joined(OWNER, state, SENT, RECEIVED, fresh=True)
    return lease


def head(sent: float, owner: str = OWNER) -> Head:
    """Return the head of a request that was sent then."""
    return Head(owner, 0, "d1", 0, 0, 0, sent)


def observe(lease: Lease, state: State, sent: float, received: float) -> None:
    """Let the reply of a script arrive."""
    lease.observe(head(sent), state, received)


def renew(lease: Lease, state: State, sent: float, received: float, *, extended: bool) -> None:
    """Let the reply of a renewal arrive."""
    lease.renewed(head(sent), state, received, extended=extended)


def allows(lease: Lease, operation: Operation, now: float = RECEIVED) -> bool:
    """Tell whether the check is allowed."""
    return lease.check(operation, now).allowed


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


def test_a_renewal_that_does_not_extend_only_informs() -> None:
    """With extended=False the view is taken and the lease ends when it would have ended."""
    lease = joined()
    renew(lease, IN_FORCE, 12.0, 12.1, extended=False)
    assert lease.view == IN_FORCE
    assert not lease.is_valid(END)


def test_only_a_renewal_extends() -> None:
    """Replies of other scripts leave the lease as long as it was."""
    lease = joined()
    observe(lease, replace(NORMAL, revision=6), 12.0, 12.1)
    assert lease.view.revision == 6
    assert not lease.is_valid(END)


def test_an_overtaken_renewal_does_not_shorten() -> None:
    """A renewal that was sent earlier and arrives later takes nothing away."""
    lease = joined()
    renew(lease, NORMAL, 12.0, 12.1, extended=True)
    renew(lease, NORMAL, 11.0, 12.2, extended=True)
    assert lease.is_valid(12.0 + V - JUST)


def test_a_repeated_join_gives_no_validity() -> None:
    """After a join that is not fresh nothing is granted until a renewal extended the lease."""
    lease = Lease(SETTINGS)
    lease.joined(OWNER, NORMAL, SENT, RECEIVED, fresh=False)
    assert not allows(lease, Operation.NEW)
    renew(lease, NORMAL, 11.0, 11.1, extended=True)
    assert allows(lease, Operation.NEW, 11.1)


@pytest.mark.parametrize("state", [NORMAL, STARTED, IN_FORCE, CLOSING], ids=lambda s: f"r{s.revision}")
def test_a_lapsed_lease_grants_nothing(state: State) -> None:
    """Not renewed in time: new locks and reclaims are refused as lapsed and retryable, in every state."""
    lease = joined(state)
    for operation in (Operation.NEW, Operation.RECLAIM):
        verdict = lease.check(operation, END)
        assert (verdict.allowed, verdict.reason) == (False, Reason.LEASE_LAPSED)
        assert verdict.retry_after > 0


@pytest.mark.parametrize("state", [NORMAL, STARTED, IN_FORCE, CLOSING], ids=lambda s: f"r{s.revision}")
def test_a_lapsed_lease_still_tests(state: State) -> None:
    """A test is never refused."""
    assert allows(joined(state), Operation.TEST, END)


def test_a_lapsed_lease_tests_provisionally() -> None:
    """Without a valid view the answer to a test is marked provisional (protocol, section 6, table)."""
    assert joined().check(Operation.TEST, END).provisional


def test_before_the_join_nothing_but_tests() -> None:
    """A lease without an incarnation grants nothing and sends no limit."""
    lease = Lease(SETTINGS)
    assert not allows(lease, Operation.NEW, 0.0)
    assert not allows(lease, Operation.RECLAIM, 0.0)
    assert allows(lease, Operation.TEST, 0.0)
    assert lease.head(0.0).not_after_ms == 0


@pytest.mark.parametrize("reason", [Reason.LEASE_LAPSED, Reason.CLOSED])
def test_an_invalidated_lease_never_comes_back(reason: Reason) -> None:
    """No renewal of this incarnation extends, and the reason is told; a new join does, unless it was closed."""
    lease = joined()
    lease.invalidate(reason)
    renew(lease, NORMAL, 11.0, 11.1, extended=True)
    assert lease.check(Operation.NEW, 11.1).reason is reason
    assert not lease.is_valid(11.1)
    lease.joined("n1:8", NORMAL, 12.0, 12.1, fresh=True)
    assert allows(lease, Operation.NEW, 12.1) is (reason is not Reason.CLOSED)


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
def test_the_table_of_verdicts(state: State, new: Reason | None, reclaim: Reason | None) -> None:
    """Each state answers new, reclaim and test as the protocol's table says, with its epoch."""
    lease = joined(state)
    verdicts = {operation: lease.check(operation, RECEIVED) for operation in Operation}
    assert (verdicts[Operation.NEW].allowed, verdicts[Operation.NEW].reason) == (new is None, new)
    assert (verdicts[Operation.RECLAIM].allowed, verdicts[Operation.RECLAIM].reason) == (reclaim is None, reclaim)
    assert verdicts[Operation.TEST].allowed
    assert verdicts[Operation.TEST].provisional == (state.state is GraceState.ACTIVE)
    assert {verdict.epoch for verdict in verdicts.values()} == {state.epoch}


@pytest.mark.parametrize(("state", "seconds"), [(STARTED, 200.0), (IN_FORCE, 90.0)], ids=["to the cap", "to the end"])
def test_retry_after_counts_down_to_the_deadline(state: State, seconds: float) -> None:
    """A refusal tells the seconds to the end of the period, its cap before it is in force, and these count down."""
    lease = joined(state)
    assert lease.check(Operation.NEW, RECEIVED).retry_after == pytest.approx(seconds)
    assert lease.check(Operation.NEW, RECEIVED + 3).retry_after == pytest.approx(seconds - 3)
    assert lease.grace_remaining(RECEIVED + 3) == pytest.approx(seconds - 3)
    assert lease.grace_remaining(RECEIVED + seconds + 1) == 0.0


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
def test_an_allowed_check_answers_an_object_that_exists(state: State, operation: Operation) -> None:
    """Two allowed checks give the verdict of the snapshot itself: nothing is made."""
    lease = joined(state)
    verdict = lease.check(operation, RECEIVED)
    assert verdict.allowed
    assert verdict is lease.check(operation, RECEIVED + 1)
    assert verdict is getattr(lease.snapshot, operation.value)


# -- events and replies ----------------------------------------------------------------------------------------------


def test_an_event_tightens_until_a_reply_as_new() -> None:
    """An event refuses grants at once and is acknowledged; an older reply changes nothing, one as new loosens."""
    lease = joined()
    assert lease.told(9)
    assert lease.acked == 9
    assert not allows(lease, Operation.NEW)
    assert not allows(lease, Operation.RECLAIM)
    observe(lease, replace(NORMAL, revision=8), 11.0, 11.1)
    renew(lease, replace(NORMAL, revision=8), 11.2, 11.3, extended=True)
    assert not allows(lease, Operation.NEW, 11.3)
    observe(lease, LIFTED, 11.4, 11.5)
    assert allows(lease, Operation.NEW, 11.5)


def test_an_event_stops_reclaims_in_force() -> None:
    """The event of the close stops reclaims before any reply tells of it."""
    lease = joined(IN_FORCE)
    assert allows(lease, Operation.RECLAIM)
    lease.told(CLOSING.revision)
    assert lease.check(Operation.RECLAIM, RECEIVED).reason is Reason.BARRIER_PENDING


@pytest.mark.parametrize("revision", [NORMAL.revision, NORMAL.revision - 1])
def test_an_old_event_is_no_news(revision: int) -> None:
    """An event of a revision that the view has passed changes nothing."""
    lease = joined()
    before = lease.snapshot
    assert not lease.told(revision)
    assert lease.snapshot is before
    assert lease.acked == NORMAL.revision


def test_an_event_does_not_extend() -> None:
    """An event leaves the lease as long as it was."""
    lease = joined()
    lease.told(9)
    assert lease.remaining(SENT) == V


def test_a_newer_reply_tightens_whenever_it_was_sent() -> None:
    """A revision above the view's is taken even from a request that was sent before it."""
    lease = joined()
    observe(lease, STARTED, SENT - 1, RECEIVED)
    assert not allows(lease, Operation.NEW)
    assert lease.acked == STARTED.revision


def test_an_older_reply_never_loosens() -> None:
    """A reply of before the start of the period, arriving after it, is ignored, a renewal too."""
    lease = joined(STARTED)
    observe(lease, NORMAL, 11.0, 11.1)
    renew(lease, NORMAL, 11.2, 11.3, extended=True)
    assert lease.view == STARTED
    assert not allows(lease, Operation.NEW, 11.3)


def test_within_a_revision_the_later_request_wins() -> None:
    """Views of the same revision are ordered by when they were asked for."""
    lease = joined()
    newer, older = replace(NORMAL, revision=6, cap_ms=2), replace(NORMAL, revision=6, cap_ms=1)
    observe(lease, newer, 12.0, 12.1)
    observe(lease, older, 11.0, 12.2)
    assert lease.view == newer


def test_another_dataset_is_not_a_view() -> None:
    """A reply of other data neither loosens nor tightens: the scripts answer that as lost data."""
    lease = joined(STARTED)
    observe(lease, replace(LIFTED, dataset="d2"), 11.0, 11.1)
    assert lease.view == STARTED


def test_a_reply_to_an_earlier_incarnation_is_not_a_view() -> None:
    """What was asked before the present join neither loosens, extends nor ends a hold."""
    lease = joined(STARTED)
    lease.release(lease.tighten(), unknown=True)
    lease.observe(replace(lease.head(11.0), owner="n1:6"), LIFTED, 11.1)
    lease.renewed(replace(lease.head(11.0), owner="n1:6"), LIFTED, 11.1, extended=True)
    assert lease.view == STARTED
    observe(lease, LIFTED, 10.4, 11.2)
    assert lease.remaining(SENT) == V
    assert not allows(lease, Operation.NEW, 11.2)


def test_the_canary_only_rises() -> None:
    """A request tells the greatest number of writes that any reply told, a stale reply's number included."""
    lease = joined()
    observe(lease, replace(NORMAL, writes=9), 11.0, 11.1)
    observe(lease, replace(NORMAL, writes=4), 10.5, 11.2)
    assert lease.head(11.3).writes == 9


# -- the node's own tightening ---------------------------------------------------------------------------------------


def test_a_hold_outlives_every_reply_but_its_own() -> None:
    """Between tighten and release no reply loosens; the release restores what the replies told."""
    lease = joined()
    token = lease.tighten()
    renew(lease, LIFTED, 11.0, 11.1, extended=True)
    assert not allows(lease, Operation.NEW, 11.1)
    lease.release(token)
    assert allows(lease, Operation.NEW, 11.1)


def test_a_hold_stops_reclaims() -> None:
    """While held, a reclaim is told to retry."""
    lease = joined(IN_FORCE)
    lease.tighten()
    assert lease.check(Operation.RECLAIM, RECEIVED).reason is Reason.BARRIER_PENDING


def test_holds_are_counted_one_by_one() -> None:
    """Two calls hold the view; the end of one, told twice, does not end the other."""
    lease = joined()
    first, second = lease.tighten(), lease.tighten()
    lease.release(first)
    lease.release(first)
    assert not allows(lease, Operation.NEW)
    lease.release(second)
    assert allows(lease, Operation.NEW)


def test_after_an_unknown_outcome_a_hold_outlives_replies_to_earlier_requests() -> None:
    """Replies to requests that do not say that the call was given up do not end the hold, however new they are."""
    lease = joined()
    token = lease.tighten()
    asked = lease.head(12.5)
    lease.release(token, unknown=True)
    lease.observe(asked, LIFTED, 13.0)
    assert not allows(lease, Operation.NEW, 13.0)


def test_after_an_unknown_outcome_a_later_request_ends_the_hold() -> None:
    """A reply to a request that says that the call was given up ends the hold."""
    lease = joined()
    lease.release(lease.tighten(), unknown=True)
    lease.observe(lease.head(12.0), NORMAL, 13.0)
    assert allows(lease, Operation.NEW, 13.0)


def test_what_is_given_up_is_below_the_floor_of_every_later_request() -> None:
    """Serials rise by one; a request that was given up is below the floor from then on, one after it is not."""
    lease = joined()
    first, second = lease.head(11.0), lease.head(11.1)
    lease.give_up(second)
    lease.give_up(first)
    third = lease.head(11.2)
    assert (first.serial, second.serial, third.serial) == (1, 2, 3)
    assert first.floor == second.floor == 0
    assert second.serial < third.floor <= third.serial


def test_a_hold_without_an_outcome_is_not_ended_by_later_requests() -> None:
    """While the call itself is under way no other reply ends its hold."""
    lease = joined()
    lease.tighten()
    observe(lease, NORMAL, 12.0, 13.0)
    assert not allows(lease, Operation.NEW, 13.0)


def test_a_hold_outlives_its_incarnation() -> None:
    """A call that is under way when the node joins anew is answered before its hold ends."""
    lease = joined()
    token = lease.tighten()
    lease.joined("n1:8", NORMAL, 11.0, 11.1, fresh=True)
    assert not allows(lease, Operation.NEW, 11.1)
    lease.release(token)
    assert allows(lease, Operation.NEW, 11.1)


# -- confirm ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "operation"), [(NORMAL, Operation.NEW), (IN_FORCE, Operation.RECLAIM)])
def test_a_grant_is_confirmed_while_nothing_changed(state: State, operation: Operation) -> None:
    """A check of this owner and epoch holds until the lease lapses."""
    lease = joined(state)
    assert lease.still_allows(operation, OWNER, state.epoch, END - JUST)
    assert not lease.still_allows(operation, OWNER, state.epoch, END)


@pytest.mark.parametrize(("state", "operation"), [(NORMAL, Operation.NEW), (IN_FORCE, Operation.RECLAIM)])
def test_a_grant_of_another_owner_or_epoch_is_stale(state: State, operation: Operation) -> None:
    """Neither an earlier incarnation's grant nor one of another epoch is confirmed."""
    lease = joined(state)
    assert not lease.still_allows(operation, "n1:6", state.epoch, RECEIVED)
    assert not lease.still_allows(operation, OWNER, state.epoch - 1, RECEIVED)
    assert not lease.still_allows(operation, OWNER, state.epoch + 1, RECEIVED)


@pytest.mark.parametrize(("state", "operation"), [(NORMAL, Operation.NEW), (IN_FORCE, Operation.RECLAIM)])
def test_a_grant_is_stale_while_the_view_is_held_or_told(state: State, operation: Operation) -> None:
    """A hold of this node and an event each make open grants stale."""
    held, told = joined(state), joined(state)
    held.tighten()
    told.told(state.revision + 1)
    assert not held.still_allows(operation, OWNER, state.epoch, RECEIVED)
    assert not told.still_allows(operation, OWNER, state.epoch, RECEIVED)


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


def test_an_invalidated_lease_confirms_nothing() -> None:
    """Fenced or closed: open grants are stale."""
    lease = joined()
    lease.invalidate()
    assert not lease.still_allows(Operation.NEW, OWNER, NORMAL.epoch, RECEIVED)


# -- the head of a request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("passed", "counted"), [(0.0, 0.0), (1.0, 0.99), (1.5, 1.485), (V, 1.59), (V + 60, 1.59)])
def test_not_after_is_the_last_replys_clock_plus_time_passed_plus_op_timeout(passed: float, counted: float) -> None:
    """Never past what the next script moves the scope clock to, however long that stood still, at 1 % of drift."""
    head = joined().head(RECEIVED + passed)
    expected = CLOCK + (counted + SETTINGS.op_timeout_seconds) * 1000
    assert expected - 1 <= head.not_after_ms <= expected
    slow = (head.over_at - RECEIVED) * 0.99 * 1000
    assert CLOCK + min(slow, 2000) > head.not_after_ms


def test_not_after_follows_the_newest_clock_only() -> None:
    """A reply with a later clock moves it, an overtaken one with an earlier clock does not."""
    lease = joined()
    observe(lease, replace(NORMAL, clock_ms=CLOCK + 5000), 15.0, 15.2)
    observe(lease, replace(NORMAL, clock_ms=CLOCK + 1000), 11.0, 15.3)
    expected = CLOCK + 5000 + 1000 * SETTINGS.op_timeout_seconds
    assert expected - 1 <= lease.head(15.2).not_after_ms <= expected
    assert lease.node_time(CLOCK + 6000) == pytest.approx(16.2)


def test_the_head_tells_what_this_node_was_told() -> None:
    """A request carries owner, dataset, canary, revision, epoch and when it was sent."""
    head = joined(IN_FORCE).head(11.0)
    assert (head.owner, head.dataset, head.writes) == (OWNER, "d1", 3)
    assert (head.revision, head.epoch, head.sent) == (IN_FORCE.revision, IN_FORCE.epoch, 11.0)


# -- any order of arrival ------------------------------------------------------------------------------------------

REPLIES = st.lists(
    st.tuples(
        st.sampled_from(["reply", "renewal", "short renewal", "event"]),
        st.integers(0, 12),  # revision
        st.floats(0, 20, allow_nan=False),  # sent
        st.sampled_from(list(GraceState)),
        st.booleans(),  # in force
        st.booleans(),  # closing
    ),
    max_size=30,
)


@given(REPLIES)
def test_revisions_never_decrease(arrivals: list[tuple[str, int, float, GraceState, bool, bool]]) -> None:
    """Whatever arrives in whatever order: revision, ack and validity never go back, and an event binds."""
    lease = joined()
    newest_event = 0
    for at, (kind, revision, sent, name, in_force, closing) in enumerate(arrivals):
        revision_before, acked_before, valid_before = lease.view.revision, lease.acked, lease.snapshot.valid_until
        told = replace(NORMAL, revision=revision, state=name, in_force=in_force, closing=closing)
        if kind == "event":
            lease.told(revision)
            newest_event = max(newest_event, revision)
        elif kind == "reply":
            observe(lease, told, sent, 20.0 + at)
        else:
            renew(lease, told, sent, 20.0 + at, extended=kind == "renewal")
        assert lease.view.revision >= revision_before
        assert lease.acked >= max(acked_before, lease.view.revision)
        assert lease.snapshot.valid_until >= valid_before
        if lease.view.revision < newest_event:
            assert not lease.still_allows(Operation.NEW, OWNER, lease.view.epoch, SENT)
            assert not lease.still_allows(Operation.RECLAIM, OWNER, lease.view.epoch, SENT)
