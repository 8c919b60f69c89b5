"""Makes the zygote's heap one that children do not write to, before its first fork.

A page is shared with a thousand children until one of them writes to it. Three things of CPython's make them write:

- Whoever uses an object counts a reference to it, and the count lies in the object. From 3.12 on, objects whose count is
  that of None are immortal (PEP 683): nobody counts them. All that the zygote has made becomes so; it lives as long as
  the process in any case.
- What a child allocates goes into free blocks between the zygote's objects first, and each such block takes a whole
  inherited page out of sharing. With every hole taken, a child allocates on fresh pages only, side by side. Costs the
  zygote about 1.5 MB once. Where the allocators are not those of CPython and glibc it does nothing.
- Code counts how often it was called in vain with something that it could be specialised for, in itself. Which code goes on
  counting is seen on a child; it is copied then to a place of its own, where it takes a third of the pages.
"""

import ctypes
import gc
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from types import CodeType, FunctionType

_IMMORTAL_MIN = 1 << 31  # a count as high is not changed, whatever it is (Include/refcount.h)
_BYTES_OVERHEAD = sys.getsizeof(b"")
_CHUNK_BYTES = (*(1 << power for power in range(16, 10, -1)), *range(1024, 16, -16))
_CHUNKS_MAX = 100_000

# what fills the holes; it must live as long as the process
_filling: list[object] = []
_functions: list[FunctionType] = []
# by address
_gathered: dict[int, CodeType] = {}


def settle_heap() -> None:
    """To be called just before the first fork, with everything imported."""
    gc.collect()
    _make_immortal()
    gc.freeze()
    _fill_holes()


def counts_references() -> bool:
    """Whether whoever uses an object of the zygote's writes to it, whatever is done."""
    return sys.version_info < (3, 12) or bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def restless_code(child: int) -> list[CodeType]:
    """Code of functions, not gathered yet, in which `child`, forked after `settle_heap`, has changed a byte. Raises OSError if
    its memory may not be read."""
    found = []
    codes = {id(one.__code__): one.__code__ for one in _functions}
    memory = os.open(f"/proc/{child}/mem", os.O_RDONLY)
    try:
        for address in codes.keys() - _gathered.keys():
            size = sys.getsizeof(codes[address])
            if os.pread(memory, size, address) != ctypes.string_at(address, size):
                found.append(codes[address])
    finally:
        os.close(memory)
    return found


def gather(codes: Iterable[CodeType]) -> None:
    """Puts the code of functions side by side, away from what nobody writes to. To be called between two calls of `settle_heap`;
    what is rehearsed has to be rehearsed anew."""
    texts = [(code, code.co_code) for code in codes]  # kept with the code, and else made between two copies
    _fill_holes()
    copies = {id(code): code.replace(co_code=text) for code, text in texts}
    for one in _functions:
        if id(one.__code__) in copies:
            _filling.append(one.__code__)
            one.__code__ = copies[id(one.__code__)]
    _gathered.update({id(copy): copy for copy in copies.values()})


def _make_immortal() -> None:
    """Gives every object that can be reached the count of None. Before 3.12, and where counts are not one 32-bit number (the
    build without the interpreter's lock), it does nothing."""
    if counts_references():
        return
    count_at = ctypes.c_uint32.from_address
    immortal = count_at(id(None)).value
    for one in _reachable():
        count_at(id(one)).value = immortal
        if isinstance(one, FunctionType):
            _functions.append(one)


def _reachable() -> list[object]:
    """Whatever the collector knows, and all that is referred to from there, but for what is immortal already."""
    objects = reached = gc.get_objects()
    seen = set(map(id, objects))
    while objects:
        referents = gc.get_referents(*objects)
        for code in objects:
            if isinstance(code, CodeType):  # which shows the collector nothing
                referents += (code.co_consts, code.co_names, code.co_name, code.co_qualname, code.co_filename)
        found = {id(one): one for one in referents if sys.getrefcount(one) < _IMMORTAL_MIN}
        objects = [one for address, one in found.items() if address not in seen]
        seen.update(map(id, objects))
        reached += objects
    return reached


def _fill_holes() -> None:
    for size, free in _free_blocks().items():
        for _ in range(free):
            _filling.append(object() if size < _BYTES_OVERHEAD else bytes(size - _BYTES_OVERHEAD))
    _fill_libc_heap()


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
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # what was made and dropped until now is no memory of the zygote's for ever
    top = libc.sbrk(0)
    for size in _CHUNK_BYTES:
        for _ in range(_CHUNKS_MAX):
            address = libc.malloc(size)
            if not address or address > top - 2 * (size + _CHUNK_BYTES[0]):
                break
