"""The cached view: what events and replies do to it, in any order, and what a request tells of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import Operation, Reason
from coordinator.protocol.call import Head, view_of
from coordinator.values import refusal_of
from tests.unit.lease_cases import (
    CLOCK,
    CLOSING,
    ENDS,
    IN_FORCE,
    LIFTED,
    NORMAL,
    OWNER,
    RECEIVED,
    SENT,
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

# -- events and replies ----------------------------------------------------------------------------------------------


def test_an_event_tightens_until_a_reply_as_new() -> None:
    """An event refuses grants at once and is acknowledged; an older reply changes nothing, one as new loosens."""
    lease = joined()
    assert lease.told(9)
    assert lease.acked == 9
    assert not allows(lease, Operation.NEW)
    assert not allows(lease, Operation.RECLAIM)
    observe(lease, view(8, 2), 11.0, 11.1)
    renew(lease, view(8, 2), 11.2, 11.3, extended=True)
    assert not allows(lease, Operation.NEW, 11.3)
    observe(lease, LIFTED, 11.4, 11.5)
    assert allows(lease, Operation.NEW, 11.5)


def test_an_event_outlives_a_reply_that_tells_the_view_of_before() -> None:
    """The reply that changes nothing in the view, the most frequent one, loosens nothing either."""
    lease = joined()
    lease.told(6)
    observe(lease, NORMAL, 11.0, 11.1)
    renew(lease, NORMAL, 11.2, 11.3, extended=True)
    assert not allows(lease, Operation.NEW, 11.3)
    assert lease.acked == 6


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


def test_a_reply_that_changes_nothing_makes_nothing() -> None:
    """The view and what `check` reads stay the very same objects: most replies are like that."""
    lease = joined(IN_FORCE)
    before, snapshot = lease.view, lease.snapshot
    observe(lease, view_of(bytes(bytearray(IN_FORCE.raw))), 11.0, 11.1)
    assert (lease.view is before, lease.snapshot is snapshot) == (True, True)


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
    """Views of the same revision are ordered by when they were asked for; also of what changed nothing between them."""
    lease = joined()
    newer, older = view(6, 2, cap=2), view(6, 2, cap=1)
    observe(lease, newer, 12.0, 12.1)
    observe(lease, older, 11.0, 12.2)
    assert lease.view == newer
    observe(lease, newer, 14.0, 14.1)
    observe(lease, older, 13.0, 14.2)
    assert lease.view == newer


def test_another_dataset_is_not_a_view() -> None:
    """A reply of other data neither loosens nor tightens: the scripts answer that as lost data."""
    lease = joined(STARTED)
    observe(lease, view(9, 3, dataset="d2"), 11.0, 11.1)
    assert lease.view == STARTED


def test_a_reply_to_another_incarnation_is_not_a_view() -> None:
    """What was asked before the join, or by another owner, neither loosens nor extends, nor tells the canary."""
    lease = joined(STARTED)
    for owner in ("n1:6", "-", ""):
        lease.observe(head(11.0, owner), reply(LIFTED, writes=99), 11.1)
        lease.renewed(head(11.0, owner), reply(LIFTED, writes=99), 11.1, extended=True)
    assert lease.view == STARTED
    assert lease.remaining(SENT) == V
    assert b" 99 " not in lease.head(11.2).packed


# -- the head of a request ---------------------------------------------------------------------------------------------


def words(request: Head) -> list[str]:
    """Return what a head tells Redis: owner, serial, floor, writes, and the words of the view."""
    return request.packed.decode().split(" ")


def test_the_head_tells_what_this_node_was_told() -> None:
    """Owner, canary and view as they were told last, and when it was sent, which is kept here."""
    lease = joined()
    lease.observe(head(11.0), reply(IN_FORCE, writes=4), 11.1)
    request = lease.head(12.5)
    assert (request.owner, request.sent, request.first) == (OWNER, 12.5, 0)
    assert words(request) == [OWNER, "1", "0", "4", *IN_FORCE.raw.decode().split(" ")]


def test_the_head_tells_the_revision_that_was_heard_of_until_it_is_seen() -> None:
    """Data that are older than an event told were lost: else the node would refuse new locks for ever."""
    lease = joined()
    lease.told(9)
    dataset, _, epoch, *_ = NORMAL.raw.decode().split(" ")
    assert words(lease.head(11.0))[4:] == [dataset, "9", epoch]
    lease.observe(head(11.0), reply(seen := view(9, 2)), 11.1)
    assert words(lease.head(11.2))[4:] == seen.raw.decode().split(" ")


def test_the_canary_only_rises() -> None:
    """A request tells the greatest number of writes that any reply told, a stale reply's number included."""
    lease = joined()
    lease.observe(head(11.0), reply(NORMAL, writes=9), 11.1)
    lease.observe(head(10.5), reply(NORMAL, writes=4), 11.2)
    assert words(lease.head(11.3))[3] == "9"
    lease.observe(head(10.0), reply(view(4, 2), writes=12), 11.4)
    assert words(lease.head(11.5))[3] == "12"


def test_what_is_given_up_is_below_the_floor_of_every_later_request() -> None:
    """Serials rise by one; a request that was given up is below the floor from then on, one after it is not."""
    lease = joined()
    first, second = lease.head(11.0), lease.head(11.1)
    lease.give_up(second)
    lease.give_up(first)
    third = lease.head(11.2)
    assert (first.serial, second.serial, third.serial) == (1, 2, 3)
    assert [int(words(request)[2]) for request in (first, second, third)] == [0, 0, 3]
    assert second.serial < int(words(third)[2]) <= third.serial


# -- the scope clock ---------------------------------------------------------------------------------------------------


def test_a_deadline_is_counted_from_the_newest_clock() -> None:
    """A deadline of the scope clock in node time: from when the newest clock was received; an older one is ignored."""
    lease = joined()
    assert lease.clock_ms == CLOCK
    assert lease.node_time(CLOCK + 3000) == RECEIVED + 3
    lease.observe(head(11.0), reply(NORMAL, clock=CLOCK + 500), 12.0)
    assert lease.node_time(CLOCK + 3000) == 14.5
    lease.observe(head(10.5), reply(NORMAL, clock=CLOCK + 400), 13.0)
    lease.observe(head(10.6), reply(NORMAL, clock=0), 13.5)  # of a script that did not look at it
    assert (lease.clock_ms, lease.node_time(CLOCK + 3000)) == (CLOCK + 500, 14.5)


def test_a_clock_of_the_same_ms_counts_from_the_later_reply() -> None:
    """The scope clock stood still: what is due is due later by the node's time, never earlier."""
    lease = joined()
    observe(lease, NORMAL, 20.0, 20.1)
    assert lease.node_time(CLOCK + 1000) == 21.1


# -- any order of arrival ------------------------------------------------------------------------------------------


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["event", "reply", "renewal", "no renewal"]),
        st.integers(4, 12),  # revision
        st.floats(SENT - 5, SENT + 20, allow_nan=False),  # sent
        st.sampled_from(["normal", "active"]),
        st.booleans(),  # in force
        st.booleans(),  # closing
    ),
    max_size=30,
)


@given(ARRIVALS)
def test_revisions_never_decrease(arrivals: list[tuple[str, int, float, str, bool, bool]]) -> None:
    """Whatever arrives in whatever order: revision, ack and validity never go back, and an event binds."""
    lease = joined()
    newest_event = 0
    for at, (kind, revision, sent, name, in_force, closing) in enumerate(arrivals):
        revision_before, acked_before, valid_before = lease.view.revision, lease.acked, lease.snapshot.valid_until
        told = view(revision, 2, name, in_force=in_force, closing=closing)
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
        assert lease.snapshot.epoch == lease.view.epoch
        if lease.view.revision < newest_event:
            assert not lease.still_allows(Operation.NEW, OWNER, lease.view.epoch, SENT)
            assert not lease.still_allows(Operation.RECLAIM, OWNER, lease.view.epoch, SENT)


@given(ARRIVALS, st.sampled_from(ENDS), st.integers(0, 30))
def test_nothing_follows_an_end(
    arrivals: list[tuple[str, int, float, str, bool, bool]], reason: Reason, when: int
) -> None:
    """Whatever arrives after it, in whatever order: no grant, no confirm, the same reason."""
    lease = joined()
    for at, (kind, revision, sent, name, in_force, closing) in enumerate(arrivals):
        if at == when:
            lease.end(reason)
        told = view(revision, 2, name, in_force=in_force, closing=closing)
        if kind == "event":
            lease.told(revision)
        else:
            renew(lease, told, sent, 20.0 + at, extended=kind == "renewal")
        if lease.is_over:
            assert lease.why_not is reason
            assert lease.check(Operation.NEW, SENT).reason is reason
            assert not lease.still_allows(Operation.NEW, OWNER, lease.view.epoch, SENT)
            assert type(refusal_of(lease.why_not)).__name__ in {"Fenced", "Closed"}
