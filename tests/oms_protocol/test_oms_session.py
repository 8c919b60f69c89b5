"""Who has been replaced, and who has only been overtaken by a session that he asked for himself."""

import pytest

from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.oms.session import Session


class Server:
    """Knows the latest session alone."""

    def __init__(self) -> None:
        self.opened = 0
        self.is_silent = False

    def open(self, deadline: float) -> str:
        if self.is_silent:
            raise OmsUnavailable("no answer")
        self.opened += 1
        return str(self.opened)

    def answer(self, session: str, deadline: float) -> str:
        if session != str(self.opened):
            raise OmsRefused("superseded", "another session")
        return "yes"


def test_a_session_that_was_asked_for_and_came_late_replaces_nobody() -> None:
    server = Server()
    session = Session("venue", server.open, lambda: None, timeout_s=1.0)
    server.is_silent = True
    for _ in range(2):
        with pytest.raises(OmsUnavailable):
            session.ask(server.answer)
    server.is_silent = False
    assert session.ask(server.answer) == "yes"
    for _ in range(2):
        server.opened += 1  # one of the two comes now
        with pytest.raises(OmsRefused, match="superseded"):
            session.ask(server.answer)
        assert session.ask(server.answer) == "yes"
    server.opened += 1  # and a third, which is another's
    with pytest.raises(OmsRefused, match="superseded"):
        session.ask(server.answer)
    with pytest.raises(OmsUnavailable, match="another router of this client is at work"):
        session.ask(server.answer)
    assert server.opened == 6
