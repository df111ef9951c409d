"""Both drivers of flows: values and errors go in, and what an interruption means, whatever it interrupts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from coordinator.api.driving import drive, drive_async
from coordinator.errors import CoordinatorError, NoGrace, OutcomeUnknown, Unavailable
from coordinator.node.requests import Sleep, Wait
from coordinator.protocol import Call, Reply
from coordinator.wire.asynchronous import Pending
from tests.unit.wire_cases import ADVANCED, CALL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from coordinator.node.requests import Flow

    Request = Call[Any] | Sleep | Wait

T = TypeVar("T")
BOUND = 20.0
REPLY = Reply(CALL.script, ADVANCED)
UNKNOWN = OutcomeUnknown("the reply was lost")
INTERRUPTIONS = [KeyboardInterrupt("^C"), SystemExit(3), ValueError("odd")]
"""What may come out of a round trip that blocks, and is no answer."""


class Log:
    """A flow that notes what it meets, makes the requests of a list whatever it meets, and what was done of them."""

    def __init__(self, *requests: Request, ends_with: Exception | None = None) -> None:
        """Prepare the requests; at the end it returns "done", or raises."""
        self.requests = requests
        self.ends_with = ends_with
        self.met: list[object] = []
        self.done: list[object] = []

    def flow(self) -> Flow[str]:
        """Make the requests."""
        for request in self.requests:
            try:
                self.met.append((yield request))
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  (it notes all of them)
                self.met.append(error)
        if self.ends_with is not None:
            raise self.ends_with
        return "done"


def blocking(log: Log, outcomes: Sequence[object]) -> str:
    """Drive it in this thread; each request has the next outcome."""
    left = list(outcomes)

    def act(request: Request) -> Any:
        log.done.append(request)
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return drive(log.flow(), act, act)


def in_a_task(log: Log, outcomes: Sequence[object]) -> str:
    """Drive it in a task; each request has the next outcome, when others had their turn."""
    left = list(outcomes)

    def run(request: Call[Any]) -> Pending:
        log.done.append(request)
        pending = Pending(request, asyncio.get_running_loop())
        outcome = left.pop(0)
        end: Any = pending.set_exception if isinstance(outcome, BaseException) else pending.set_result
        asyncio.get_running_loop().call_soon(end, outcome)
        return pending

    async def rest(request: Sleep | Wait) -> object:
        log.done.append(request)
        await asyncio.sleep(0)
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return asyncio.run(drive_async(log.flow(), run, rest))


Driver = Any
each_driver = pytest.mark.parametrize("driver", [blocking, in_a_task])


# -- both drivers ----------------------------------------------------------------------------------------------------


@each_driver
def test_a_flow_is_given_what_became_of_its_requests(driver: Driver) -> None:
    """Replies, and the ends of sleeps and waits; its result is the driver's."""
    log = Log(CALL, Sleep(1.5), Wait(7.0), CALL)
    assert driver(log, [REPLY, None, True, REPLY]) == "done"
    assert log.met == [REPLY, None, True, REPLY]
    assert log.done == list(log.requests)


@each_driver
def test_a_flow_without_requests_ends(driver: Driver) -> None:
    """What is decided locally needs no round trip."""
    assert driver(Log(), []) == "done"


@each_driver
@pytest.mark.parametrize("error", [UNKNOWN, Unavailable("no"), NoGrace("normal")], ids=lambda e: type(e).__name__)
def test_an_error_of_a_request_goes_back_into_the_flow(driver: Driver, error: CoordinatorError) -> None:
    """It may go on after it, and make further requests."""
    log = Log(CALL, CALL, Sleep(1.0))
    assert driver(log, [error, REPLY, error]) == "done"
    assert log.met == [error, REPLY, error]


@each_driver
def test_an_error_of_the_flow_is_raised(driver: Driver) -> None:
    """A refusal, or a mistake in it, comes out as it is."""
    for error in (NoGrace("normal"), ValueError("a mistake")):
        with pytest.raises(type(error)) as caught:
            driver(Log(CALL, ends_with=error), [REPLY])
        assert caught.value is error


@each_driver
def test_an_interrupted_flow_learns_the_unknown_outcome_first(driver: Driver) -> None:
    """Redis may have run the request: the flow repeats it, say, and that is still done; then it is interrupted."""
    odd = ValueError("odd")
    log = Log(CALL, CALL)
    with pytest.raises(ValueError, match="odd") as caught:
        driver(log, [odd, REPLY])
    assert caught.value is odd
    assert [type(item) for item in log.met] == [OutcomeUnknown, ValueError]
    assert log.done == [CALL, CALL]


@each_driver
def test_an_interruption_is_met_once_the_outcome_is_known(driver: Driver) -> None:
    """While replies are lost the flow goes on learning that; any other end of a request is the interruption."""
    odd = ValueError("odd")
    log = Log(CALL, CALL, CALL)
    with pytest.raises(ValueError, match="odd"):
        driver(log, [odd, UNKNOWN, Unavailable("no")])
    first, *later = log.met
    assert isinstance(first, OutcomeUnknown)
    assert later == [UNKNOWN, odd]


@each_driver
def test_an_interrupted_flow_rests_no_more(driver: Driver) -> None:
    """A sleep or wait that it asks for ends at once, with the interruption."""
    odd = ValueError("odd")
    log = Log(CALL, Sleep(5.0), Wait(6.0), CALL)
    with pytest.raises(ValueError, match="odd"):
        driver(log, [odd, REPLY])
    assert [type(item) for item in log.met] == [OutcomeUnknown, ValueError, ValueError, ValueError]
    assert log.done == [CALL, CALL]


@each_driver
def test_an_interruption_of_a_rest_is_met_at_once(driver: Driver) -> None:
    """Nothing is under way: there is nothing that is not known."""
    odd = ValueError("odd")
    log = Log(Sleep(1.0), Wait(2.0))
    with pytest.raises(ValueError, match="odd"):
        driver(log, [odd])
    assert log.met == [odd, odd]
    assert log.done == [Sleep(1.0)]


@each_driver
@pytest.mark.parametrize("end", [None, NoGrace("normal"), UNKNOWN], ids=["returns", "refused", "unknown"])
def test_an_interruption_is_raised_however_the_flow_ends(driver: Driver, end: CoordinatorError | None) -> None:
    """Neither its result nor its refusal takes the place of Ctrl-C."""
    odd = ValueError("odd")
    with pytest.raises(ValueError, match="odd") as caught:
        driver(Log(CALL, ends_with=end), [odd])
    assert caught.value is odd


@each_driver
def test_a_later_interruption_takes_the_place_of_an_earlier_one(driver: Driver) -> None:
    """The flow learns of each that an outcome is not known; the latest is met and raised."""
    first, second = ValueError("first"), ValueError("second")
    log = Log(CALL, CALL, CALL, CALL)
    with pytest.raises(ValueError, match="second"):
        driver(log, [first, second, REPLY, REPLY])
    assert [type(item) for item in log.met[:2]] == [OutcomeUnknown, OutcomeUnknown]
    assert log.met[2:] == [second, second]
    assert log.done == [CALL] * 4


@pytest.mark.parametrize("by", INTERRUPTIONS, ids=lambda e: type(e).__name__)
def test_whatever_interrupts_a_thread_is_raised_as_it_is(by: BaseException) -> None:
    """Ctrl-C, the end of the process, an error that nobody thought of."""
    log = Log(CALL, CALL)
    with pytest.raises(type(by)) as caught:
        blocking(log, [by, REPLY])
    assert caught.value is by
    assert isinstance(log.met[0], OutcomeUnknown)
    assert log.met[1] is by


# -- cancelling a task -----------------------------------------------------------------------------------------------


class Held:
    """A flow in a task, whose round trips end when the test says so."""

    def __init__(self, log: Log) -> None:
        """Begin."""
        self.log = log
        self.pending: list[Pending] = []
        self.on_run: Callable[[], object] = lambda: None
        self.task = asyncio.create_task(drive_async(log.flow(), self._run, self._rest))

    def _run(self, request: Call[Any]) -> Pending:
        self.log.done.append(request)
        self.pending.append(Pending(request, asyncio.get_running_loop()))
        self.on_run()
        return self.pending[-1]

    async def _rest(self, request: Sleep | Wait) -> None:
        self.log.done.append(request)
        await asyncio.get_running_loop().create_future()

    async def settled(self) -> None:
        """Let everything run that can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def is_cancelled(self) -> None:
        """Expect the cancellation, and nothing but it."""
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(self.task, BOUND)


def scenario(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in an event loop."""

    def run() -> None:
        asyncio.run(test())

    run.__doc__ = test.__doc__
    return run


@scenario
async def test_a_cancelled_task_waits_for_its_round_trip() -> None:
    """However often it is cancelled, it goes on when the reply is there; that is dropped, and nothing more is sent."""
    held = Held(Log(CALL))
    await held.settled()
    for _ in range(3):
        held.task.cancel()
        await held.settled()
        assert not held.task.done()
    held.pending[0].set_result(REPLY)
    await held.is_cancelled()
    assert [type(item) for item in held.log.met] == [asyncio.CancelledError]
    assert held.log.done == [CALL]


@scenario
async def test_a_cancelled_task_whose_reply_is_lost_learns_that_first() -> None:
    """The flow repeats the request, which is waited for as well; then it meets the cancellation."""
    held = Held(Log(CALL, CALL))
    await held.settled()
    held.task.cancel()
    held.pending[0].set_exception(UNKNOWN)
    await held.settled()
    assert not held.task.done()
    assert held.log.met == [UNKNOWN]
    held.pending[1].set_result(REPLY)
    await held.is_cancelled()
    assert isinstance(held.log.met[1], asyncio.CancelledError)


@scenario
async def test_a_cancelled_task_that_is_refused_meets_the_cancellation() -> None:
    """The outcome is known: the refusal goes behind the cancellation."""
    held = Held(Log(CALL))
    await held.settled()
    held.task.cancel()
    held.pending[0].set_exception(Unavailable("no"))
    await held.is_cancelled()
    assert [type(item) for item in held.log.met] == [asyncio.CancelledError]


@scenario
async def test_a_cancellation_during_the_repeat_is_met_as_well() -> None:
    """First an odd error, then a cancellation: the task ends as cancelled, so that time-outs around it work."""
    held = Held(Log(CALL, CALL, CALL))
    await held.settled()
    held.pending[0].set_exception(ValueError("odd"))
    await held.settled()
    held.task.cancel()
    held.pending[1].set_result(REPLY)
    await held.settled()
    held.pending[2].set_result(REPLY)
    await held.is_cancelled()
    first, second, third = held.log.met
    assert isinstance(first, OutcomeUnknown)
    assert isinstance(second, ValueError | asyncio.CancelledError)
    assert isinstance(third, asyncio.CancelledError)


@scenario
async def test_a_task_that_is_cancelled_as_it_sends_waits_too() -> None:
    """The cancellation is there before the await: the round trip has begun, so it is waited for all the same."""
    held = Held(Log(CALL))
    held.on_run = held.task.cancel  # in the task itself
    await held.settled()
    assert not held.task.done()
    held.pending[0].set_result(REPLY)
    await held.is_cancelled()


@pytest.mark.parametrize("request_", [Sleep(5.0), Wait(5.0)], ids=["sleep", "wait"])
def test_a_task_that_is_cancelled_in_a_rest_ends_at_once(request_: Sleep | Wait) -> None:
    """Nothing is under way."""

    async def run() -> None:
        held = Held(Log(request_))
        await held.settled()
        held.task.cancel()
        await held.is_cancelled()
        assert [type(item) for item in held.log.met] == [asyncio.CancelledError]

    asyncio.run(run())


@scenario
async def test_a_time_out_around_a_flow_is_one() -> None:
    """asyncio.timeout cancels and takes its cancellation back: the caller sees TimeoutError and goes on."""
    log, pending = Log(CALL), asyncio.get_running_loop().create_future()

    def run(request: Call[Any]) -> Pending:
        one = Pending(request, asyncio.get_running_loop())
        pending.set_result(one)
        asyncio.get_running_loop().call_later(0.02, one.set_result, REPLY)
        return one

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await drive_async(log.flow(), run, _never)
    assert pending.result().done()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@scenario
async def test_a_future_that_is_cancelled_with_its_task_is_taken_for_unknown() -> None:
    """Not one of a channel's, then: nobody can say what became of the request."""
    log, plain = Log(CALL), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(drive_async(log.flow(), lambda _: plain, _never))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, BOUND)
    assert [type(item) for item in log.met] == [OutcomeUnknown]


@scenario
async def test_a_request_that_cannot_be_sent_was_not_sent() -> None:
    """The channel refuses to pack it: an error of ours, and no unknown outcome."""

    def run(_: Call[Any]) -> Pending:
        message = "no such word"
        raise TypeError(message)

    log = Log(CALL)
    with pytest.raises(TypeError, match="no such word"):
        await drive_async(log.flow(), run, _never)
    assert [type(item) for item in log.met] == [TypeError]


def test_a_task_that_goes_with_its_loop_asks_for_nothing_more() -> None:
    """The loop is gone: its coroutine is closed, and its flow with it, without another request."""
    log = Log(CALL, CALL)
    loop = asyncio.new_event_loop()
    work = drive_async(log.flow(), lambda call: _noted(log, Pending(call, loop)), _never)
    work.send(None)
    work.close()
    loop.close()
    assert (log.met, len(log.done)) == ([], 1)


def _noted(log: Log, pending: Pending) -> Pending:
    log.done.append(pending)
    return pending


def _never(request: Sleep | Wait) -> Awaitable[object]:
    raise AssertionError(request)
