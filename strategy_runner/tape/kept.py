"""Where retention has come to: the first seq kept, and how many entries of each stream's index lie below it.

The entries below have no records any more, so their chunks may be removed and nothing could make them again: after a power
cut the indexes are made from the records, and this says with which ordinal each begins. Written by temp file, fsync, rename
and fsync of the folder before anything is removed.
"""

from pathlib import Path

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.small_files import checked, replace_file, with_crc


class Kept(msgspec.Struct, frozen=True):
    first: int = 0
    entries: tuple[int, ...] = ()

    def of(self, stream_id: int) -> int:
        """The first ordinal of a stream whose record is kept."""
        return self.entries[stream_id] if stream_id < len(self.entries) else 0


def write_kept(path: Path, kept: Kept) -> None:
    """Returns when it is on the disk. Raises OSError; what was written before may then still stand."""
    replace_file(path, with_crc(msgspec.msgpack.encode(kept)), synced="name")


def read_kept(path: Path) -> Kept:
    """Raises CorruptRecordError; nothing was removed yet if there is no such file."""
    try:
        payload = checked(path.read_bytes())
    except FileNotFoundError:
        return Kept()
    if payload is None:
        raise CorruptRecordError(f"{path}: expected bytes that match their crc, found others")
    try:
        return msgspec.msgpack.decode(payload, type=Kept)
    except msgspec.DecodeError as error:
        raise CorruptRecordError(f"{path}: expected where retention has come to: {error}") from error
