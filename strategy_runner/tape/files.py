"""How the files of a tape are named and mapped: segments of records, chunks of stream indexes, counts, names.

head              the page of head.py
names.log         one frame per stream, in the order of stream ids: its name
counts            uint64 per stream id: entries in its index
cuts.log          one frame per cut: records above the durable mark that were lost, see CUT
seg-SEQ.tape      `segment_records` records from seq SEQ on; the one behind the current is there before it is needed
streams/ID-K.idx  the K-th chunk of a stream's index: uint64 seqs, INDEX_ENTRIES of them
streams/kept      where retention has come to: entries of each index below the first seq kept (kept.py)
reserve           space held back for a full disk (reserve.py)
"""

import errno
import mmap
import os
import struct
from pathlib import Path

from strategy_runner.errors import DiskFullError
from strategy_runner.model.record import SIZE
from strategy_runner.small_files import paths_in

INDEX_ENTRIES = 32_768
STREAMS_MAX = 65_536
CUT = struct.Struct("<QQ")  # epoch, seq


def head_path(folder: Path) -> Path:
    return folder / "head"


def names_path(folder: Path) -> Path:
    return folder / "names.log"


def cuts_path(folder: Path) -> Path:
    return folder / "cuts.log"


def reserve_path(folder: Path) -> Path:
    return folder / "reserve"


def kept_path(folder: Path) -> Path:
    return folder / "streams" / "kept"


def counts_path(folder: Path) -> Path:
    return folder / "counts"


def segment_path(folder: Path, first_seq: int) -> Path:
    return folder / f"seg-{first_seq:015d}.tape"


def segments(folder: Path) -> list[tuple[int, Path]]:
    """(first seq, path) of every segment, in order."""
    return sorted((int(path.stem[4:]), path) for path in paths_in(folder, "seg-", ".tape"))


def index_path(folder: Path, stream_id: int, chunk: int) -> Path:
    return folder / "streams" / f"{stream_id}-{chunk}.idx"


def map_existing(path: Path) -> mmap.mmap:
    """Maps a whole file, to be read. Raises FileNotFoundError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    finally:
        os.close(fd)


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no space, or no more of it for this user: it may come back."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def map_preallocated(path: Path, size: int) -> tuple[int, mmap.mmap]:
    """(descriptor, map) of a file whose blocks are all allocated, so that a full disk is an error here and never a SIGBUS.

    Raises DiskFullError and leaves no file behind, except one that held something before.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFullError(f"{path}: expected space for a file: {error.strerror}") from error
    is_new = os.fstat(fd).st_size == 0
    try:
        os.posix_fallocate(fd, 0, size)
        return fd, mmap.mmap(fd, size)
    except OSError as error:
        os.close(fd)
        if is_new:
            path.unlink(missing_ok=True)
        raise DiskFullError(f"{path}: expected {size} bytes of free space: {error.strerror}") from error


def segment_bytes(segment_records: int) -> int:
    return segment_records * SIZE
