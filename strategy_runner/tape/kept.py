"""Where retention has come to: the first seq kept, and how many entries of each stream's index lie below it.

The entries below have no records any more, so their chunks may be removed and nothing could make them again: after a power
cut the indexes are made from the records, and this says with which ordinal each begins. Written by temp file, fsync, rename
and fsync of the folder before anything is removed.
"""

import zlib
from pathlib import Path

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.small_files import replace_file


class Kept(msgspec.Struct, frozen=True):
    first: int = 0
    entries: tuple[int, ...] = ()

    def of(self, stream_id: int) -> int:
        """The first ordinal of a stream whose record is kept."""
        return self.entries[stream_id] if stream_id < len(self.entries) else 0


def write_kept(path: Path, kept: Kept) -> None:
    """Returns when it is on the disk. Raises OSError; what was written before may then still stand."""
    payload = msgspec.msgpack.encode(kept)
    replace_file(path, zlib.crc32(payload).to_bytes(4, "little") + payload, synced="name")


def read_kept(path: Path) -> Kept:
    """Raises CorruptRecordError; nothing was removed yet if there is no such file."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Kept()
    if int.from_bytes(raw[:4], "little") != zlib.crc32(raw[4:]):
        raise CorruptRecordError(f"{path}: expected bytes that match their crc, found others")
    try:
        return msgspec.msgpack.decode(raw[4:], type=Kept)
    except msgspec.DecodeError as error:  # an empty file has a crc that holds
        raise CorruptRecordError(f"{path}: expected where retention has come to: {error}") from error
