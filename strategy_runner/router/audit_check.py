"""Whether an audit log is what it says: its chain whole, each entry as its source has it, and nothing of a source left out."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.router.audit_log import NO_HASH, SOURCES, AuditEntry, Source, holds, read_audit, source_log
from strategy_runner.tape.logs import read_frames


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """`head` is the hash of the last good entry, in hex. `broken` names the first that is not, "" if all are; `missing` is by
    source how many of its entries the log does not have yet."""

    entries: int
    head: str
    broken: str
    missing: dict[str, int]

    @property
    def is_whole(self) -> bool:
        return not self.broken and not self.missing


def sizes(folder: Path) -> dict[Source, int]:
    """How long each source of a run is now."""
    paths = {source: source_log(folder, source) for source in SOURCES}
    return {source: path.stat().st_size if path.exists() else 0 for source, path in paths.items()}


def verify(folder: Path, until: Mapping[Source, int], pinned: tuple[int, str] | None = None) -> Verified:
    """Reads all of a run's audit log and of its sources; what they have beyond `until` is not missed. `pinned` is the number and
    hash of an entry that was kept elsewhere."""
    sources = {source: read_frames(source_log(folder, source)) for source in SOURCES}
    counts: dict[Source, int] = dict.fromkeys(SOURCES, 0)
    chain, number, broken = NO_HASH, 0, ""
    try:
        for _, entry in read_audit(folder):
            broken = _problem(entry, number, chain, counts, pinned) or _differs(entry, sources[entry.source])
            if broken:
                break
            counts[entry.source] += 1
            chain, number = entry.chain, number + 1
        if not broken and pinned is not None and pinned[0] >= number:
            broken = f"entry {pinned[0]}: expected the pinned entry, found that the log ends with entry {number - 1}"
        left: dict[str, int] = {}
        if not broken:
            left = {source: sum(end <= until[source] for end, _ in sources[source]) for source in SOURCES}
    except StateError as error:
        return Verified(entries=number, head=chain.hex(), broken=f"entry {number}: {error}", missing={})
    return Verified(
        entries=number,
        head=chain.hex(),
        broken=broken,
        missing={source: count for source, count in left.items() if count},
    )


def _problem(
    entry: AuditEntry, number: int, chain: bytes, counts: dict[Source, int], pinned: tuple[int, str] | None
) -> str:
    if entry.number != number:
        return f"entry {number}: expected this number, found {entry.number}"
    if entry.ordinal != counts[entry.source]:
        return f"entry {number}: expected entry {counts[entry.source]} of {entry.source}, found {entry.ordinal}"
    if not holds(entry, chain):
        return f"entry {number}: expected a hash over itself and the hash before it, found {entry.chain.hex()}"
    if pinned is not None and pinned[0] == number and pinned[1].lower() != entry.chain.hex():
        return f"entry {number}: expected the pinned hash {pinned[1].lower()}, found {entry.chain.hex()}"
    return ""


def _differs(entry: AuditEntry, source: Iterator[tuple[int, bytes]]) -> str:
    there = next(source, None)
    if there == (entry.end, entry.payload):
        return ""
    found = "none" if there is None else f"another one, which ends at offset {there[0]}"
    return f"entry {entry.number}: expected entry {entry.ordinal} of {entry.source} as it was copied, found {found}"
