"""The log of model faults: the first ones are told, and however many come, few lines are written."""

import logging

import pytest

from strategy_runner.predictions.aggregation import LATE, MISSING, Fault
from strategy_runner.worker.fault_log import FaultLog


def test_the_1st_2nd_4th_and_8th_fault_of_a_model_and_reason_are_told(caplog: pytest.LogCaptureFixture) -> None:
    log = FaultLog()
    with caplog.at_level(logging.WARNING):
        for number in range(10):
            log.note([Fault("m1", "X", number, MISSING)])
        log.note([Fault("m1", "X", 10, LATE), Fault("m2", "X", 10, MISSING)])
    told = [message.partition(" (")[0] + message.rpartition(",")[2] for message in caplog.messages]
    assert told == [
        "model m1: prediction_missing no. 1 of this kind",
        "model m1: prediction_missing no. 2 of this kind",
        "model m1: prediction_missing no. 4 of this kind",
        "model m1: prediction_missing no. 8 of this kind",
        "model m1: prediction_late no. 1 of this kind",
        "model m2: prediction_missing no. 1 of this kind",
    ]
    assert "a later bar came before the model spoke of this one): bar of X at 7" in caplog.messages[3]


def test_a_million_faults_are_a_score_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    log = FaultLog()
    with caplog.at_level(logging.WARNING):
        log.note([Fault("m1", "X", 0, MISSING)] * 1_000_000)
    assert len(caplog.messages) == 20
