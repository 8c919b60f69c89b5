"""Makes the zygote's heap one that children do not write to, before its first fork.

A page is shared with a thousand children until one of them writes to it. Two things of CPython's make them write:

- Whoever uses an object counts a reference to it, and the count lies in the object. From 3.12 on, objects whose count is
  that of None are immortal (PEP 683): nobody counts them. All that the zygote has made becomes so; it lives as long as
  the process in any case.
- What a child allocates goes into free blocks between the zygote's objects first, and each such block takes a whole
  inherited page out of sharing. With every hole taken, a child allocates on fresh pages only, side by side. Costs the
  zygote about 1.5 MB once. Where the allocators are not those of CPython and glibc it does nothing.
"""

import ctypes
import gc
import os
import sys
import sysconfig
import tempfile
from types import CodeType

_BYTES_OVERHEAD = sys.getsizeof(b"")
_CHUNK_BYTES = (*(1 << power for power in range(16, 8, -1)), 640, 384, 128, 64, 32)
_CHUNKS_MAX = 100_000

# what fills the holes; it must live as long as the process
_filling: list[object] = []


def settle_heap() -> None:
    """To be called just before the first fork, with everything imported."""
    gc.collect()
    _make_immortal()
    gc.freeze()
    for size, free in _free_blocks().items():
        for _ in range(free):
            _filling.append(object() if size < _BYTES_OVERHEAD else bytes(size - _BYTES_OVERHEAD))
    _fill_libc_heap()


def _make_immortal() -> None:
    """Gives every object that can be reached the count of None. Before 3.12, and where counts are not one 32-bit number (the
    build without the interpreter's lock), it does nothing."""
    if sys.version_info < (3, 12) or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return
    count_at = ctypes.c_uint32.from_address
    immortal = count_at(id(None)).value
    for address in map(id, _reachable()):
        count_at(address).value = immortal


def _reachable() -> list[object]:
    """Whatever the collector knows, and all that is referred to from there."""
    objects = reached = gc.get_objects()
    seen = set(map(id, objects))
    while objects:
        referents = gc.get_referents(*objects)
        for code in objects:
            if isinstance(code, CodeType):  # which shows the collector nothing
                referents += (code.co_consts, code.co_names, code.co_name, code.co_qualname, code.co_filename)
        objects = list({id(one): one for one in referents if id(one) not in seen}.values())
        seen.update(map(id, objects))
        reached += objects
    return reached


def _free_blocks() -> dict[int, int]:
    """Free blocks by size class, from the interpreter's own statistics, which it prints to descriptor 2."""
    if not hasattr(sys, "_debugmallocstats"):
        return {}
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        rows = [line.split() for line in file.read().decode(errors="replace").splitlines()]
    # class, size, pools, blocks in use, free blocks
    return {int(row[1]): int(row[4]) for row in rows if len(row) == 5 and all(word.isdigit() for word in row)}


def _fill_libc_heap() -> None:
    """Allocates from large to small until the heap hands out its top, that is, no hole of the size is left."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "sbrk"):
        return
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.sbrk.argtypes = [ctypes.c_ssize_t]
    top = libc.sbrk(0)
    for size in _CHUNK_BYTES:
        for _ in range(_CHUNKS_MAX):
            address = libc.malloc(size)
            if not address or address > top - 2 * (size + _CHUNK_BYTES[0]):
                break
