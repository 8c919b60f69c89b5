"""A power cut, played on files: what no sync covers may be gone, half there, or something else.

The rules are those of a journalling file system that promises nothing more: renames and removals in a folder survive in
their order, up to some moment at or after the folder's last sync; a file that was never synced may not be there, or be empty; of
one that was synced, every byte that was there at the sync is, and behind it may be garbage. Files that are only ever mapped
(heads, indexes, counts) may be as they were at any moment since they were last synced. DuckDB's files and logs for people are
left alone. Of a log the pages that were never synced may come to the disk in any order: those that did not are zeros.
"""

import random
from collections import defaultdict
from pathlib import Path

import msgspec
from faults.disk import KEPT, LEDGER
from faults.entry import BOOT
from faults.home import FaultyHome

from strategy_runner.model.record import SIZE, record_crc
from strategy_runner.tape.logs import START

PAGE = 4096
GARBAGE_BYTES_MAX = 300
# what a cut leaves alone: read anew by people or written anew at each start
SPARED = frozenset({"daemon", "logs", "run", "monitor"})
MAPPED = frozenset({"head", "status", "counts"})
SAMPLES_MAX = 40
# logs in which much may stand unsynced; of the others each entry or two is synced
HOLED = frozenset({"signals.log", "decisions.log", "orders.log", "fills.log", "risk.log", "audit.log"})
HOLE_BYTES_MIN = 5  # a smaller one may be a flipped bit, see logs.py


class Rename(msgspec.Struct, frozen=True):
    """A rename to `path` or a removal of it; `before` is what stood there, if anything did."""

    path: Path
    before: Path | None


class Power:
    """Knows what has been synced since the last cut, and cuts."""

    def __init__(self, home: FaultyHome, luck: random.Random) -> None:
        self._home = home
        self._luck = luck
        self._boots = 1
        self._read_to = 0
        self._rest = b""
        self._synced: dict[int, tuple[int, int]] = {}
        self._pending: defaultdict[Path, list[Rename]] = defaultdict(list)
        self._samples: defaultdict[Path, list[tuple[int, bytes]]] = defaultdict(list)
        self._whole: dict[Path, int] = {}
        self._take_as_synced()

    def sample(self) -> None:
        """Remembers what the mapped pages hold now: the disk may have got them at this moment and never again."""
        self._read_ledger()
        for path in [*self._home.home.market("mock").glob("tape/head"), *self._state("status")]:
            samples = self._samples[path]
            samples.append((path.stat().st_ino, path.read_bytes()))
            del samples[:-SAMPLES_MAX]

    def cut(self) -> list[str]:
        """For a home in which nothing runs. Returns what it did, a line for each thing that is not as it was."""
        self._read_ledger()
        self._whole = {}
        done = [line for folder in sorted(self._pending) for line in self._take_back_renames(folder)]
        for path in self._state("*"):
            done += self._cut_file(path)
        self._begin_anew()
        return done

    # -- what was synced -------------------------------------------------------------------------------------------------

    def _read_ledger(self) -> None:
        with (self._home.watched / LEDGER).open("rb") as ledger:
            ledger.seek(self._read_to)
            block = ledger.read()
        self._read_to += len(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            what, *words = line.decode().split(" ")
            if what == "sync":
                inode, size, records = map(int, words)
                known_size, known_records = self._synced.get(inode, (0, 0))
                self._synced[inode] = max(size, known_size), max(records, known_records)
                self._forget_samples(inode)
            elif what == "shortened":
                inode, size = map(int, words)
                if inode in self._synced:
                    self._synced[inode] = min(size, self._synced[inode][0]), self._synced[inode][1]
            elif what == "folder":
                self._pending = defaultdict(
                    list, {f: ops for f, ops in self._pending.items() if f.stat().st_ino != int(words[0])}
                )
            else:
                path = Path(words[0])
                self._pending[path.parent].append(Rename(path, None if words[1] == "-" else Path(words[1])))

    def _forget_samples(self, inode: int) -> None:
        """What came before a sync is no longer possible."""
        for samples in self._samples.values():
            samples[:] = [sample for sample in samples if sample[0] != inode]

    def _begin_anew(self) -> None:
        """What is readable after a cut has been read from the disk, so it is durable. The machine boots anew."""
        self._take_as_synced()
        self._pending.clear()
        self._samples.clear()
        for kept in (self._home.watched / KEPT).iterdir():
            kept.unlink()
        self._boots += 1
        (self._home.watched / BOOT).write_text(f"boot {self._boots}\n")

    def _take_as_synced(self) -> None:
        self._synced = {}
        for path in self._state("*"):
            found = path.stat()
            records = int(path.stem[4:]) + self._whole[path] // SIZE if path in self._whole else 0
            self._synced[found.st_ino] = found.st_size, records

    # -- what a cut does -------------------------------------------------------------------------------------------------

    def _state(self, pattern: str) -> list[Path]:
        """The files of the product's state by name, but for those that a cut spares."""
        var, found = self._home.home.var, []
        for path in sorted(var.rglob(pattern)):
            if path.relative_to(var).parts[0] not in SPARED and ".duckdb" not in path.name and path.is_file():
                found.append(path)
        return found

    def _take_back_renames(self, folder: Path) -> list[str]:
        """The last few renames and removals of a folder did not happen."""
        renames = self._pending[folder]
        lost = self._luck.randrange(len(renames) + 1) if self._luck.random() < 0.6 else 0
        done = []
        for rename in reversed(renames[len(renames) - lost :]):
            rename.path.unlink(missing_ok=True)
            if rename.before is not None:
                rename.before.rename(rename.path)
            done.append(f"{self._name(rename.path)}: as before it was replaced or removed")
        return done

    def _cut_file(self, path: Path) -> list[str]:
        luck, size = self._luck, path.stat().st_size
        synced, records = self._synced.get(path.stat().st_ino, (-1, 0))
        if path.name == "lock" or (size == synced and path.suffix != ".tape"):
            return []
        if path.suffix == ".tape":
            return self._cut_segment(path, synced, records)
        if path.suffix == ".idx" or path.name in MAPPED:
            return self._cut_pages(path, size)
        if synced < 0 and luck.random() < 0.5:
            if luck.random() < 0.5:
                path.unlink()
                return [f"{self._name(path)}: gone, never synced"]
            synced = 0
        safe = min(max(synced, 0), size)  # shorter than synced: written anew since, over what was there
        if path.name in HOLED and size // PAGE > safe // PAGE and luck.random() < 0.5:
            return self._lose_pages(path, safe)
        keep = luck.randint(safe, size)
        keep = keep if keep >= START else safe  # the first few bytes are written at once, or not at all
        garbage = self._garbage()
        if keep == size and not garbage:
            return []
        with path.open("r+b") as file:
            file.truncate(keep)
            file.seek(keep)
            file.write(garbage)
        return [f"{self._name(path)}: {size} -> {keep} bytes (synced {max(synced, 0)}), {len(garbage)} of garbage"]

    def _lose_pages(self, path: Path, safe: int) -> list[str]:
        """Of what was not synced only some pages came to the disk."""
        raw, lost = bytearray(path.read_bytes()), 0
        for page in range(safe - safe % PAGE, len(raw), PAGE):
            begin, end = max(page, safe), min(page + PAGE, len(raw))
            if self._luck.random() < 0.5 and end - begin >= HOLE_BYTES_MIN:
                raw[begin:end] = bytes(end - begin)
                lost += 1
        path.write_bytes(raw)
        return [f"{self._name(path)}: {lost} pages of zeros behind byte {safe} of {len(raw)}"]

    def _garbage(self) -> bytes:
        luck = self._luck
        return luck.choice(
            (b"", b"", luck.randbytes(luck.randrange(1, GARBAGE_BYTES_MAX)), bytes(luck.randrange(1, 64)))
        )

    def _cut_segment(self, path: Path, synced: int, records: int) -> list[str]:
        """Records above what was synced: gone, torn in the middle of one, garbage, or some pages of them."""
        luck, raw, first = self._luck, bytearray(path.read_bytes()), int(path.stem[4:])
        if synced < 0 and luck.random() < 0.4:
            path.unlink()
            return [f"{self._name(path)}: gone, never synced"]
        safe = min(max(0, records - first) * SIZE, len(raw))
        used = self._used(raw)
        self._whole[path] = min(safe, used)
        if used <= safe:
            return []
        kept = luck.randint(safe, used) if luck.random() < 0.7 else safe
        what = luck.choice(("zeros", "garbage", "pages"))
        if what == "pages":
            for page in range(kept - kept % PAGE, len(raw), PAGE):
                if luck.random() < 0.5:
                    begin, end = max(page, kept), min(page + PAGE, len(raw))
                    raw[begin:end] = bytes(end - begin)
        else:
            tail = bytes(len(raw) - kept) if what == "zeros" else luck.randbytes(len(raw) - kept)
            raw[kept:] = tail
        path.write_bytes(raw)
        self._whole[path] = self._first_torn(raw, first, kept)
        return [f"{self._name(path)}: {what} from seq {first + kept // SIZE} on, synced to {first + safe // SIZE}"]

    def _cut_pages(self, path: Path, size: int) -> list[str]:
        """A mapped file as the kernel wrote it at some moment. Of a head or a status page those moments were sampled."""
        luck = self._luck
        if path.suffix == ".idx" or path.name == "counts":
            what = luck.choice(("as it was", "zeros", "garbage"))
            if what != "as it was":
                path.write_bytes(bytes(size) if what == "zeros" else luck.randbytes(size))
            return [f"{self._name(path)}: {what}"]
        samples = [raw for inode, raw in self._samples[path] if inode == path.stat().st_ino]
        if not samples or luck.random() < 0.3:
            return []
        number = luck.randrange(len(samples))
        path.write_bytes(samples[number])
        return [f"{self._name(path)}: as it was {len(samples) - number} looks ago"]

    def _first_torn(self, raw: bytearray, first: int, kept: int) -> int:
        """Where recovery will find the end: some of the pages that were kept may go on where others were lost."""
        at = kept - kept % SIZE
        while at < len(raw) and record_crc(first + at // SIZE, bytes(raw[at : at + SIZE])) == _crc_at(raw, at):
            at += SIZE
        return at

    def _used(self, raw: bytearray) -> int:
        """Up to the last record that is not all zeros."""
        return (len(raw.rstrip(b"\0")) + SIZE - 1) // SIZE * SIZE

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._home.home.var))


def _crc_at(raw: bytearray, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")
