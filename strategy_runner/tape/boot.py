"""Which boot of the machine this is. State of another boot may have lost what was never synced; state of this one has not."""

import hashlib
from functools import cache
from pathlib import Path

from strategy_runner.small_files import read_whole

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache  # also for the workers forked from this process
def this_boot() -> int:
    """A number above 0, the same for every process until the machine boots again."""
    digest = hashlib.blake2b(read_whole(_BOOT_ID), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1
