"""Which boot of the machine this is. State of another boot may have lost what was never synced; state of this one has not."""

import hashlib
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot() -> int:
    """A number above 0, the same for every process until the machine boots again."""
    digest = hashlib.blake2b(_BOOT_ID.read_bytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1
