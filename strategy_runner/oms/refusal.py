"""A refusal: an OMS says that it did not do what it was asked, and why. Unlike silence this is certain: nothing has happened."""

from typing import Literal

from strategy_runner.errors import SafetyRefusal

RefusalCode = Literal[
    "unsupported_version",  # of the protocol
    "malformed",  # not a message, or one with a number or name that cannot be
    "too_large",  # more orders, ids or bytes than one message may have
    "foreign_client",  # another client than the one this way in belongs to
    "no_session",  # trading without a session, or with one of before the OMS's restart: open one and ask again
    "superseded",  # a later session of this client has been opened: whoever holds this one has been replaced
    "ahead",  # events asked for that lie behind the last: the asker knows of what never happened here
    "refused",  # any other reason, told in words
]

# only the session was wrong of what was asked
SESSION_OVER: frozenset[RefusalCode] = frozenset({"no_session", "superseded"})


class OmsRefused(SafetyRefusal):
    """The OMS did not do it. `code` is stable; a rejected order is no refusal but a report."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code: RefusalCode = code
        self.message = message
