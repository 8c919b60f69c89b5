"""A run: the next records of one stream of a worker, and what they tell.

Many are read at once, some hundred of them; few, or those around a damaged one, each by itself when it is asked for, so that
damage is met when all before it has been applied.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from strategy_runner.model.event import Event
from strategy_runner.model.private import PrivateEvent
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.subscription import Subscription

RUN_RECORDS_MIN, RUN_RECORDS_MAX = (
    8,
    512,
)  # at once: fewer cost less one by one, more would leave the processor's cache again
Told = tuple[int, int, Event | PrivateEvent]  # a record's seq, when the feed received it, its event


class Run(NamedTuple):
    """The ordinal of the first record, the seqs of all."""

    subscription: Subscription
    ordinal: int
    seqs: list[int]


def read_records(reader: TapeReader, stream_id: int, subscription: Subscription, seqs: list[int]) -> Iterator[Told]:
    """What the records of a stream tell. Raises CorruptRecordError when one that is damaged is asked for."""
    if len(seqs) < RUN_RECORDS_MIN:
        return _one_by_one(reader, stream_id, subscription, seqs)
    return chain.from_iterable(_many_at_once(reader, stream_id, subscription, seqs))


def told(subscription: Subscription, seqs: list[int], rows: "npt.NDArray[np.void]") -> Iterable[Told]:
    """What the first of these records tell, those that are in `rows`."""
    return zip(seqs[: len(rows)], rows["received_ns"].tolist(), subscription.events(rows), strict=True)


def _many_at_once(
    reader: TapeReader, stream_id: int, subscription: Subscription, seqs: list[int]
) -> Iterator[Iterable[Told]]:
    at = 0
    while at < len(seqs):
        some = seqs[at : at + RUN_RECORDS_MAX]
        rows = reader.rows(some, stream_id)
        yield _one_by_one(reader, stream_id, subscription, some) if rows is None else told(subscription, some, rows)
        at += len(some if rows is None else rows)


def _one_by_one(reader: TapeReader, stream_id: int, subscription: Subscription, seqs: list[int]) -> Iterator[Told]:
    fields_of, make = reader.fields, subscription.make
    for seq in seqs:
        fields = fields_of(seq, stream_id)
        yield seq, fields[3], make(fields[2], *fields[8:13])
