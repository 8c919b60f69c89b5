"""The audit log: everything that happened to a client's trading, copied from the logs that tell it, in a chain of hashes.

Each entry's hash covers the entry and the hash before it, so that whoever keeps one hash elsewhere can prove everything up to it.
How far each source has been copied is told by the entries themselves: after a kill nothing is missing and nothing is there twice.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.router.breaker_log import breaker_log
from strategy_runner.router.journal import decision_log
from strategy_runner.router.operator_log import operator_log
from strategy_runner.router.order_journal import order_log
from strategy_runner.tape.logs import START, read_frames

Source = Literal["operator", "decisions", "orders", "breakers"]
SOURCES: tuple[Source, ...] = ("operator", "decisions", "orders", "breakers")
NO_HASH = bytes(32)
_ARRAY_OF_7, _BYTES_32 = b"\x97", b"\xc4\x20"  # as msgpack begins them

_encode = msgspec.msgpack.Encoder().encode


class AuditEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`number` is dense from 0. `payload` is entry `ordinal` of its source, whose frame ends at `end` there; `at_ns` is when it
    was copied. `chain` is the hash."""

    number: int
    at_ns: int
    source: Source
    ordinal: int
    end: int
    payload: bytes
    chain: bytes


class Place(msgspec.Struct, frozen=True):
    """How far a source has been copied: so many entries, up to this offset."""

    count: int = 0
    offset: int = START


decode_entry = msgspec.msgpack.Decoder(AuditEntry).decode


def chained(
    before: bytes, number: int, at_ns: int, source: Source, ordinal: int, end: int, payload: bytes
) -> tuple[bytes, bytes]:
    """The encoded entry that follows one with the hash `before`, and its own hash. An entry is the array of what its hash is
    over, and the hash: encoded once for both."""
    told = _encode((number, at_ns, source, ordinal, end, payload))
    chain = hashlib.blake2b(before + told, digest_size=32).digest()
    return b"".join((_ARRAY_OF_7, told[1:], _BYTES_32, chain)), chain


def holds(entry: AuditEntry, before: bytes) -> bool:
    _, chain = chained(before, entry.number, entry.at_ns, entry.source, entry.ordinal, entry.end, entry.payload)
    return chain == entry.chain


def audit_log(folder: Path) -> Path:
    """In the folder of a client's run."""
    return folder / "audit.log"


def source_log(folder: Path, source: Source) -> Path:
    """The log that a source of this run is."""
    if source == "operator":
        return operator_log(folder)
    paths = {"decisions": decision_log, "orders": order_log, "breakers": breaker_log}
    return paths[source](folder / "router")


def read_audit(folder: Path, offset: int = START) -> Iterator[tuple[int, AuditEntry]]:
    """(offset behind it, entry) of each entry from an offset on. Raises CorruptRecordError."""
    path = audit_log(folder)
    for end, payload in read_frames(path, offset):
        yield end, _decoded(path, end, payload)


def _decoded(path: Path, end: int, payload: bytes) -> AuditEntry:
    try:
        return decode_entry(payload)
    except msgspec.DecodeError as error:
        raise CorruptRecordError(f"{path}: expected an entry that ends at offset {end}, found: {error}") from error
