"""The feed's clock: when a record was received. It goes on evenly while the wall clock is set.

It is the monotonic clock and an offset. The offset follows the wall clock by at most a tenth of the time that passes, so a
step of an hour changes the age of a record by a tenth and neither expires nor revives anything; the clock comes to the right
time over ten hours, and it never goes back. Only a wall clock that is a week and more ahead is believed at once: this one
then began when nobody had set the other (1970). One a week and more behind is not believed at all.

A step is told, so that it becomes a record: half a second between what the two clocks say of the time since the last look.
A smeared leap second is none.
"""

import time
from collections.abc import Callable

STEP_NS = 500_000_000
FOLLOWED_NS = 7 * 86_400_000_000_000
FOLLOW_SHARE = 10  # of the time passed, a tenth
LOOK_NS_MAX = 10_000_000
LOOKS_MAX = 5


class FeedClock:
    """`wall_ns` and `monotonic_ns` are the host's clocks. Both are looked at by `look`, and nowhere else."""

    def __init__(
        self,
        offset_ns: int = 0,
        received_ns: int = 0,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`offset_ns` is where an earlier process of this boot left the clock, 0 if there was none; `received_ns` is the last
        time it gave to a record. Without them the clock begins with the wall clock.
        """
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self.monotonic_ns, self._last_wall_ns = self._both()
        self.now_ns = self._last_wall_ns
        if offset_ns:
            earliest_ns = max(self._last_wall_ns, received_ns)
            left_ns = self.monotonic_ns + offset_ns
            self.now_ns = max(left_ns, received_ns) if abs(left_ns - earliest_ns) < FOLLOWED_NS else earliest_ns
        self._step_ns = 0

    @property
    def offset_ns(self) -> int:
        """What this clock is ahead of the monotonic one; never 0."""
        return max(1, self.now_ns - self.monotonic_ns)

    def look(self) -> int:
        """Looks at the host's clocks and returns this clock's time, which `now_ns` keeps until the next look."""
        monotonic_ns, wall_ns = self._monotonic_ns(), self._wall_ns()
        elapsed_ns = monotonic_ns - self.monotonic_ns
        if abs(wall_ns - self._last_wall_ns - elapsed_ns) > STEP_NS:
            monotonic_ns, wall_ns = self._both()
            elapsed_ns = monotonic_ns - self.monotonic_ns
            stepped_ns = wall_ns - self._last_wall_ns - elapsed_ns
            self._step_ns += stepped_ns if abs(stepped_ns) > STEP_NS else 0
        self.monotonic_ns, self._last_wall_ns = monotonic_ns, wall_ns
        even_ns = self.now_ns + elapsed_ns
        behind_ns = wall_ns - even_ns
        if behind_ns >= FOLLOWED_NS:
            self.now_ns = wall_ns
        elif behind_ns <= -FOLLOWED_NS:
            self.now_ns = even_ns
        else:
            most_ns = elapsed_ns // FOLLOW_SHARE
            self.now_ns = even_ns + min(max(behind_ns, -most_ns), most_ns)
        return self.now_ns

    def take_step_ns(self) -> int:
        """By how much the wall clock was set since the last call; 0 if it was not."""
        step_ns, self._step_ns = self._step_ns, 0
        return step_ns

    def _both(self) -> tuple[int, int]:
        """(monotonic, wall) of one moment: a process that is not run between the two readings sees a step where none is."""
        for _ in range(LOOKS_MAX):
            before_ns, wall_ns, monotonic_ns = self._monotonic_ns(), self._wall_ns(), self._monotonic_ns()
            if monotonic_ns - before_ns < LOOK_NS_MAX:
                break
        return monotonic_ns, wall_ns
