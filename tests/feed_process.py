"""A feed as a process of its own, put together from a spec file as supervisord would; for tests of several packages."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np

from strategy_runner.config.home import Home
from strategy_runner.config.spec import (
    FeedSpec,
    MarketSpec,
    MockSpec,
    ModelProviderSpec,
    PrivateSource,
    ReplaySpec,
    TapeSpec,
    write_spec,
)
from strategy_runner.model.record import SIZE
from strategy_runner.tape import files
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, Status, read_status

PATIENCE_S = 60.0
KINDS = ("trade", "quote", "bar.1m", "bar.5m", "clock.1s", "prediction.m1.1m")


def mock_spec(records: int, *, seed: int = 7, speed: float = 0.0) -> MockSpec:
    return MockSpec(
        seed=seed,
        speed=speed,
        start_ns=1_700_000_000_000_000_000,
        records=records,
        trades_per_s=2.0,
        quotes_per_s=1.0,
        prices=(("BTC-USD", 30_000.0),),
    )


def streams_of(symbols: Iterable[str], kinds: Iterable[str] = KINDS) -> tuple[str, ...]:
    return tuple(f"{symbol}/{kind}" for symbol in symbols for kind in kinds)


class FeedProcess:
    """A context: a feed's home, and at most one process that runs in it. Leaving kills the process and removes the home."""

    def __init__(
        self,
        streams: tuple[str, ...],
        *,
        mock: MockSpec | None = None,
        replay: ReplaySpec | None = None,
        segment_records: int = 16_384,
        below: Path = Path("/tmp"),
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sr", dir=below))  # socket paths are short: not below pytest's folders
        home = Home(self.root)
        home.sockets.mkdir(parents=True)
        folder = home.market("mock")
        self.tape = folder / "tape"
        self.status_path = folder / "status"
        self.spec_path = self.root / "feed.json"
        self.log_path = self.root / "feed.log"
        self.spec = FeedSpec(
            mode="mock",
            streams=streams,
            mock=mock,
            replay=replay,
            models=ModelProviderSpec(provider="mock", seed=1),
            tape=TapeSpec(
                segment_records=segment_records,
                durable_interval_ms=5.0,
                reserve_mb=1.0,
                retention_hours=24.0,
                retention_gb=5.0,
            ),
            market=MarketSpec(
                tape=str(self.tape),
                doorbell=home.market_endpoint("doorbell"),
                frames=home.market_endpoint("frames"),
                private=home.market_endpoint("private"),
            ),
            beat_interval_s=0.2,
            readers=(),
            folder=str(folder),
            log="",
            log_level="info",
        )
        write_spec(self.spec_path, self.spec)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "FeedProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and self.log_path.exists():
            print(self.log_path.read_text())
        self.kill()
        shutil.rmtree(self.root)

    def start(self) -> None:
        assert self._process is None
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """A clean stop; the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(PATIENCE_S)
        self._process = None
        return code

    def rewrite(self, streams: tuple[str, ...]) -> None:
        """Changes the spec of the running feed, as the plan does when a client wants more."""
        self.spec = msgspec.structs.replace(self.spec, streams=streams)
        write_spec(self.spec_path, self.spec)

    def follow_fills(self, *sources: PrivateSource) -> None:
        """Changes whose fill logs the feed follows, running or not."""
        self.spec = msgspec.structs.replace(self.spec, private=sources)
        write_spec(self.spec_path, self.spec)

    def change_mock(self, mock: MockSpec) -> None:
        self.spec = msgspec.structs.replace(self.spec, mock=mock)
        write_spec(self.spec_path, self.spec)

    def wait_ended(self) -> int:
        """Of a feed that cannot go on: its exit code."""
        assert self._process is not None
        code = self._process.wait(PATIENCE_S)
        self._process = None
        return code

    def run_another(self) -> int:
        """A second process with the same spec; the exit code it ends with."""
        with self.log_path.open("ab") as log:
            return subprocess.run(self._command(), check=False, stderr=log, timeout=PATIENCE_S).returncode

    def status(self) -> Status:
        """Of the process that runs now."""
        found = read_status(self.status_path)
        assert self._process is not None
        return found if found is not None and found.pid == self._process.pid else Status()

    def wait_halted(self) -> None:
        self._wait(lambda: self.status().state is State.HALTED)

    def wait_beats(self, count: int) -> None:
        """Until the process has said so often that it is alive."""
        for _ in range(count):
            before_ns = self.status().beat_ns
            self._wait(lambda before_ns=before_ns: self.status().beat_ns > before_ns)  # type: ignore[misc]

    def wait_finished(self) -> None:
        self._wait(lambda: self.status().state is State.FINISHED)

    def wait_records(self, count: int) -> None:
        """Until so many records are published, or the source has ended."""
        self._wait(lambda: head_path(self.tape).exists())
        head = Head(head_path(self.tape))
        self._wait(lambda: head.count >= count or self.status().state is State.FINISHED)

    def wait_durable(self) -> None:
        """Until all that is published is on the disk."""
        head = Head(head_path(self.tape))
        self._wait(lambda: head.durable >= head.count)

    def wait_ready(self) -> None:
        self._wait(lambda: self.status().state in (State.FOLLOWING, State.FINISHED))

    def reader(self) -> TapeReader:
        return TapeReader(self.tape)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "strategy_runner.assembly", str(self.spec_path)]

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self._process is not None
            code = self._process.poll()
            assert code is None, f"the feed ended with {code}: {self.log_path.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"the feed is not there yet: {self.status()}"
            time.sleep(0.002)


def contents(reader: TapeReader) -> list[bytes]:
    """Every record of a tape, without what may differ between runs: received_ns, epoch and crc."""
    found: list[bytes] = []
    for _, array in reader.arrays(0, reader.head.count):
        plain = np.array(array)
        for name in ("received_ns", "epoch", "crc"):
            plain[name] = 0
        raw = plain.tobytes()
        found += [raw[at : at + plain.itemsize] for at in range(0, len(raw), plain.itemsize)]
    return found


def check_whole(reader: TapeReader) -> None:
    """Every record passes its crc, and the streams' indexes hold exactly the seqs of their records, in order."""
    by_stream: dict[int, list[int]] = {}
    for seq in range(reader.head.count):
        by_stream.setdefault(reader.record(seq).stream, []).append(seq)
    for stream_id, seqs in by_stream.items():
        found: list[int] = []
        while len(found) < reader.entries(stream_id):
            found += reader.seqs(stream_id, len(found), reader.entries(stream_id))
        assert found == seqs


def cut_the_power(tape: Path, *, lost_from: int) -> None:
    """Records from a seq on never reached the disk; the durable mark says no more than it must."""
    head = Head(files.head_path(tape), writable=True)
    head.boot, head.durable = 1, lost_from
    for first, path in files.segments(tape):
        keep = max(0, min(lost_from - first, head.segment_records)) * SIZE
        with path.open("r+b") as segment:
            size = path.stat().st_size
            segment.seek(keep)
            segment.write(bytes(size - keep))
