"""The order queue: what waits when signals come faster than orders may go. Exits first, then by priority, then by age.

Two token buckets, one for exits and one for entries, so that neither takes what the other needs. Time comes in; the whole
queue is a Struct, and the same calls give the same orders.
"""

import bisect

import msgspec

from strategy_runner.risk.limits import EXIT_RATE_FACTOR, Rate

QUEUE_FULL = "order_queue_full"
WAITED_TOO_LONG = "late"
REASONS = {
    QUEUE_FULL: "orders may not go as fast as signals come, and as many more urgent ones wait already as may wait"
}


class Waiting(msgspec.Struct, frozen=True, order=True):
    """A signal that waits. Compared field by field: `urgency` is 0 for an exit and 1 for an entry, `rank` the place of its
    strategy in `priorities`, and `number` that of its decision, which no other has."""

    urgency: int
    rank: int
    since_ns: int
    number: int
    signal_id: str
    expires_ns: int

    @property
    def is_exit(self) -> bool:
        return self.urgency == 0


class Bucket(msgspec.Struct):
    """A token bucket in whole nanoseconds: `credit_ns` is time saved up, of which one order costs the rate's span / count."""

    rate: Rate
    credit_ns: int
    at_ns: int

    @classmethod
    def full(cls, rate: Rate, now_ns: int) -> "Bucket":
        return cls(rate, rate.span_ns, now_ns)

    @property
    def cost_ns(self) -> int:
        return -(-self.rate.span_ns // self.rate.count)

    def fill(self, now_ns: int) -> None:
        """A clock that went back brings nothing."""
        self.credit_ns = min(self.rate.span_ns, self.credit_ns + max(0, now_ns - self.at_ns))
        self.at_ns = max(self.at_ns, now_ns)

    def take(self) -> bool:
        if self.credit_ns < self.cost_ns:
            return False
        self.credit_ns -= self.cost_ns
        return True

    def wait_ns(self) -> int:
        """Until the next order may go, from the last `fill` on."""
        return max(0, self.cost_ns - self.credit_ns)


class Taken(msgspec.Struct, frozen=True):
    """What may go now, in this order, and what has waited too long."""

    ready: list[Waiting]
    expired: list[Waiting]


class OrderQueue(msgspec.Struct):
    """`waiting` is sorted, the most urgent first, and never longer than `queue_size`. None of it expires before `soonest_ns`."""

    queue_size: int
    exits: Bucket
    entries: Bucket
    waiting: list[Waiting]
    soonest_ns: int = 0

    @classmethod
    def empty(cls, rate: Rate, queue_size: int, now_ns: int) -> "OrderQueue":
        return cls(queue_size, Bucket.full(rate.times(EXIT_RATE_FACTOR), now_ns), Bucket.full(rate, now_ns), [])

    def put(self, one: Waiting) -> Waiting | None:
        """Returns the one that has no place: the least urgent of all, which may be the new one."""
        self.soonest_ns = min(self.soonest_ns, one.expires_ns) if self.waiting else one.expires_ns
        bisect.insort(self.waiting, one)
        return self.waiting.pop() if len(self.waiting) > self.queue_size else None

    def lapse(self, now_ns: int) -> list[Waiting]:
        """Takes out what has waited until its time to live is over."""
        if not self.waiting or now_ns < self.soonest_ns:
            return []
        late = [one for one in self.waiting if one.expires_ns <= now_ns]
        self.waiting = [one for one in self.waiting if one.expires_ns > now_ns]
        self.soonest_ns = min((one.expires_ns for one in self.waiting), default=0)
        return late

    def take(self, now_ns: int, at_most: int | None = None) -> Taken:
        """What waits until its time to live is over expires; it is not sent even if it could be."""
        self.exits.fill(now_ns)
        self.entries.fill(now_ns)
        expired = self.lapse(now_ns)
        if not self.waiting or (self.exits.wait_ns() and self.entries.wait_ns()):
            return Taken([], expired)
        ready: list[Waiting] = []
        kept: list[Waiting] = []
        for index, one in enumerate(self.waiting):
            if len(ready) == at_most:
                kept += self.waiting[index:]
                break
            (ready if (self.exits if one.is_exit else self.entries).take() else kept).append(one)
        self.waiting = kept
        if ready:
            self.soonest_ns = min((one.expires_ns for one in kept), default=0)
        return Taken(ready, expired)

    def next_ns(self) -> int | None:
        """When `take` may have something again; None while nothing waits."""
        if not self.waiting:
            return None
        buckets = [self.exits] if self.waiting[0].is_exit else []
        if not self.waiting[-1].is_exit:
            buckets.append(self.entries)
        return min(self.soonest_ns, *(bucket.at_ns + bucket.wait_ns() for bucket in buckets))
