"""The event window: the latest events of a client as they were heard, dense, so that most need not be asked for. Pure."""

from collections import deque
from collections.abc import Iterable

from strategy_runner.model.order import OmsEvent

WINDOW_EVENTS = 4_096


class EventWindow:
    """`next` is the number that the client's next event will have, as far as was heard; None before anything was."""

    def __init__(self) -> None:
        self.next: int | None = None
        self._events: deque[OmsEvent] = deque(maxlen=WINDOW_EVENTS)

    def hear(self, events: Iterable[OmsEvent]) -> None:
        """Takes events in the order in which they come. What was heard before is passed over; behind a gap the window begins
        anew, and what is missing before it has to be asked for."""
        for event in events:
            if self._events and event.number <= self._events[-1].number:
                continue
            if self._events and event.number != self._events[-1].number + 1:
                self._events.clear()
            self._events.append(event)
            self.next = max(self.next or 0, event.number + 1)

    def hear_next(self, number: int) -> None:
        """What a beat or an answer says: more reliable than what was heard so far. If that was more, the OMS may have lost it,
        and what comes then has the same numbers: it is forgotten, and asked for if it is there after all."""
        self.next = number
        while self._events and self._events[-1].number >= number:
            self._events.pop()

    def has_news(self, from_number: int) -> bool:
        """Whether there may be an event of this number or a later one."""
        return self.next is None or self.next != from_number

    def take(self, from_number: int, limit: int) -> list[OmsEvent] | None:
        """Events from a number on; none if there are none yet, None if they must be asked for."""
        if self.next is None or from_number > self.next:
            return None
        if from_number == self.next:
            return []
        if not self._events or not self._events[0].number <= from_number <= self._events[-1].number:
            return None
        skipped = from_number - self._events[0].number
        return [self._events[index] for index in range(skipped, min(skipped + limit, len(self._events)))]
