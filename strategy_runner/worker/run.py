"""A run: the next records of one stream of a worker, and what they tell.

Many are read at once, some hundred of them, as a block; few, or those around a damaged one, each by itself when it is asked
for, so that damage is met when all before it has been applied.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain, count, repeat
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from strategy_runner.model.event import Event
from strategy_runner.model.private import PrivateEvent
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.subscription import Subscription

# at once: fewer cost less one by one, more would leave the processor's cache again
RUN_RECORDS_MIN, RUN_RECORDS_MAX = 8, 512
_FEW = 64  # which are read faster without numpy; in cold caches, as in a fleet, many more than when nothing else is at work
Told = tuple[int, int, Event | PrivateEvent]  # a record's seq, when the feed received it, its event


class Run(NamedTuple):
    """The ordinal of the first record, the seqs of all."""

    subscription: Subscription
    ordinal: int
    seqs: memoryview

    def below(self, limit: int) -> "Run":
        """Its records with seqs below a limit."""
        subscription, ordinal, seqs = self
        return Run(subscription, ordinal, seqs[: bisect_left(seqs, limit)]) if seqs[-1] >= limit else self


class Block(NamedTuple):
    """Records that were read at once, by column. `marks` are their seqs + 1, as the status page has them; an event is made
    when it is asked for, each once."""

    marks: list[int]
    received_ns: memoryview | list[int]
    times: list[int]
    events: Iterator[Event]


def in_order(runs: list[Run]) -> list[tuple[int, Subscription, int]]:
    """(seq, subscription, ordinal) of the records of all runs, in the order of seq."""
    batch = [
        entry
        for subscription, ordinal, seqs in runs
        for entry in zip(seqs.tolist(), repeat(subscription), count(ordinal))
    ]
    if len(runs) > 1:
        batch.sort(key=itemgetter(0))
    return batch


def read_block(reader: TapeReader, stream_id: int, subscription: Subscription, seqs: memoryview) -> Block | None:
    """The first of these records, as many as stand in one segment. None if one of them is damaged."""
    if len(seqs) <= _FEW:
        return _read_few(reader, stream_id, subscription, seqs)
    rows = reader.rows(seqs, stream_id)
    if rows is None:
        return None
    marks = (np.asarray(seqs[: len(rows)]) + np.uint64(1)).tolist()
    times = rows["event_ns"].tolist()
    return Block(marks, rows["received_ns"].data, times, subscription.events(times, rows["v"]))


def _read_few(reader: TapeReader, stream_id: int, subscription: Subscription, seqs: memoryview) -> Block | None:
    found = reader.few(seqs, stream_id)
    if found is None:
        return None
    make = subscription.make
    return Block(
        [seq + 1 for seq in seqs[: len(found)]],
        [fields[3] for fields in found],
        [fields[2] for fields in found],
        (make(fields[2], *fields[8:13]) for fields in found),
    )


def read_records(reader: TapeReader, stream_id: int, subscription: Subscription, seqs: memoryview) -> Iterator[Told]:
    """What the records of a stream tell. Raises CorruptRecordError when one that is damaged is asked for."""
    if len(seqs) < RUN_RECORDS_MIN:
        return _one_by_one(reader, stream_id, subscription, seqs)
    return chain.from_iterable(_many_at_once(reader, stream_id, subscription, seqs))


def told(block: Block) -> Iterator[Told]:
    """What each record of a block tells."""
    for mark, received_ns, event in zip(block.marks, block.received_ns, block.events, strict=True):
        yield mark - 1, received_ns, event


def _many_at_once(
    reader: TapeReader, stream_id: int, subscription: Subscription, seqs: memoryview
) -> Iterator[Iterable[Told]]:
    at = 0
    while at < len(seqs):
        some = seqs[at : at + RUN_RECORDS_MAX]
        block = read_block(reader, stream_id, subscription, some)
        yield _one_by_one(reader, stream_id, subscription, some) if block is None else told(block)
        at += len(some if block is None else block.marks)


def _one_by_one(reader: TapeReader, stream_id: int, subscription: Subscription, seqs: memoryview) -> Iterator[Told]:
    fields_of, make = reader.fields, subscription.make
    for seq in seqs:
        fields = fields_of(seq, stream_id)
        yield seq, fields[3], make(fields[2], *fields[8:13])
