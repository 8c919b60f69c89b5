"""The paper log: the fills of a worker that fills its own orders, in its own folder.

Like the signal log: what is derived again after a restart is compared with what the log holds, and appended only where it is
new. A difference is a divergence.
"""

from pathlib import Path

from strategy_runner.errors import DivergenceError
from strategy_runner.tape.logs import FRAME_BYTES, START, AppendLog, begin_of, read_frames
from strategy_runner.worker.outbox import is_derived_again

_OWNER_ONLY = 0o600


class PaperLog:
    """Goes on from the offset of a snapshot; what stands behind it is expected to come again."""

    def __init__(self, path: Path, offset: int = START, *, is_restored: bool = False) -> None:
        """`is_restored` as for the outbox. Raises StateError if the log is damaged or ends before the offset, OSError."""
        self.path = path
        unsynced = is_derived_again if is_restored else None
        self._log = AppendLog(path, whole_to=offset, permissions=_OWNER_ONLY, unsynced=unsynced)
        self._known = _payloads(path, offset)
        self._pending: list[bytes] = []
        self.offset = offset
        """The place of the next entry: the end of the log, or, while entries come again, within it."""

    def go_on(self, offset: int) -> None:
        """From the offset to which another process has brought the log. Raises StateError, OSError."""
        assert not self._pending, "flush before another process writes"
        self._log.close()
        self._log = AppendLog(self.path, whole_to=offset, permissions=_OWNER_ONLY)
        self._known = _payloads(self.path, offset)
        self.offset = offset

    def begin(self) -> None:
        """A new life begins: what an older one filled was another account's."""
        self._log.cut(START)
        self._known = {}

    def record(self, payload: bytes) -> None:
        """Takes an entry. Raises DivergenceError if the log holds another one in its place."""
        offset = self.offset
        self.offset += FRAME_BYTES + len(payload)
        if not self._known:
            self._pending.append(payload)
            return
        known = self._known.pop(offset, None)
        if known != payload:
            raise DivergenceError(
                f"{self.path}: offset {offset}: expected the entry that it holds, found another when filled again"
            )

    def flush(self) -> int:
        """Writes what was collected and returns how much. Raises OSError and then keeps it for another try."""
        if not self._pending:
            return 0
        self._log.append_many(self._pending)
        written, self._pending = len(self._pending), []
        return written

    def sync(self) -> None:
        self._log.sync()

    def close(self) -> None:
        self._log.close()


def _payloads(path: Path, offset: int) -> dict[int, bytes]:
    """By the offset of their frames."""
    return {begin_of(end, payload): payload for end, payload in read_frames(path, offset)}
