"""How long a turn of the daemon's loop may sleep."""

import time
from collections.abc import Iterator

import pytest
from supervisor.medusa import asyncore_25 as asyncore

from strategy_runner.supervision.loop import SPAWNS_PER_TURN_MAX, TurnPoller

LONG_S = 5.0
SHORT_S = 0.05


class WaitingCall:
    """A connection whose call is not answered yet, as supervisord's loop sees it."""

    delay = SHORT_S


@pytest.fixture
def waiting_call() -> Iterator[WaitingCall]:
    call = WaitingCall()
    asyncore.socket_map[-1] = call
    yield call
    del asyncore.socket_map[-1]


@pytest.fixture
def poller() -> TurnPoller:
    poller = TurnPoller(None)
    poller.poll(LONG_S)
    return poller


def seconds(poller: TurnPoller, timeout_s: float) -> float:
    begun_s = time.monotonic()
    poller.poll(timeout_s)
    return time.monotonic() - begun_s


def test_the_first_turn_does_not_sleep_for_it_starts_the_programs() -> None:
    assert seconds(TurnPoller(None), LONG_S) < SHORT_S


def test_a_turn_with_nothing_to_do_sleeps_its_time(poller: TurnPoller) -> None:
    assert seconds(poller, SHORT_S) >= SHORT_S


def test_a_turn_takes_so_many_starts_and_the_next_follows_at_once(poller: TurnPoller) -> None:
    for _ in range(SPAWNS_PER_TURN_MAX):
        assert poller.may_spawn
        poller.count_spawn()
    assert not poller.may_spawn
    assert seconds(poller, LONG_S) < SHORT_S
    assert poller.may_spawn


def test_a_waiting_call_is_asked_again_after_its_own_delay(poller: TurnPoller, waiting_call: WaitingCall) -> None:
    assert SHORT_S <= seconds(poller, LONG_S) < LONG_S / 2
