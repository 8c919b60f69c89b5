"""A worker's position as its router sees it: what the worker believes it asked for, and what was let through of that.

The two differ once an entry was expired or refused here, of which the worker does not know. Then the exit that the worker
signals later would open what it means to close; so the router must know both, and lets no more of an exit through than it let in.
"""

from math import copysign

import msgspec

from strategy_runner.model.position_sum import is_within, moved
from strategy_runner.model.signal import ORDERING, SignalBody

_CLOSED_SIDES = {"closes:long": 1.0, "closes:short": -1.0}


class Position(msgspec.Struct, frozen=True, gc=False):
    """Signed sizes since the generation began: `wanted` by the signals the worker passed, `held` by the accepted of them."""

    generation: str = ""
    wanted: float = 0.0
    held: float = 0.0

    def of(self, generation: str) -> "Position":
        """This position, or a flat one for another generation: new code begins without a position."""
        return self if self.generation == generation else Position(generation)

    def is_exit(self, body: SignalBody) -> bool:
        """Whether a signal only reduces what was let through, or changes an order that was checked."""
        if body.action not in ORDERING:
            return True
        return body.action == "close" or _reduces(self.held, self._change(body))

    def was_never_entered(self, body: SignalBody) -> bool:
        """Whether nothing was let through of what the worker believes to hold and means to reduce."""
        if body.action not in ORDERING or self.wanted == self.held:
            return False
        return self._is_meant_as_exit(body) and self._change(body) * self.held >= 0

    def left_of(self, body: SignalBody) -> float | None:
        """How much there is to exit, for an exit of more than was let through; None for any other signal. To be asked of one that
        was entered."""
        if body.action not in ORDERING or (body.action != "close" and self.wanted == self.held):
            return None
        if not self._is_meant_as_exit(body):
            return None
        return None if is_within(abs(self._change(body)), self.held) else abs(self.held)

    def after(self, body: SignalBody, *, accepted: bool, size: float | None) -> "Position":
        """The position once a signal that the worker passed is decided; `size` as in the decision."""
        if body.action not in ORDERING:
            return self
        change, closes = self._change(body), body.action == "close"
        let_through = change if size is None else copysign(size, change)
        held = _moved(self.held, let_through, closes) if accepted else self.held
        return Position(self.generation, _moved(self.wanted, change, closes), held)

    def _is_meant_as_exit(self, body: SignalBody) -> bool:
        change = self._change(body)
        return change * self.wanted < 0 if body.action == "close" else _reduces(self.wanted, change)

    def _change(self, body: SignalBody) -> float:
        assert body.size is not None, "a signal that the worker passed has a size"
        if body.action == "close":
            told = _CLOSED_SIDES.get(body.reasons[-1] if body.reasons else "")
            return -body.size * (told or (1.0 if self.wanted > 0 else -1.0))
        return body.size if body.action == "buy" else -body.size


def _reduces(size: float, change: float) -> bool:
    return change * size < 0 and is_within(abs(change), size)


def _moved(size: float, change: float, closes: bool) -> float:
    """A close ends at nothing and never opens the other side."""
    return 0.0 if closes and abs(change) >= abs(size) else moved(size, change)
