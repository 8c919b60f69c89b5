"""A tiny program for the tests: does what its spec, a JSON file, says, and rings a bell when it starts.

spec: {"name": ..., "bell": path of a datagram socket, "report": path, "behaviour": one of those below}
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    spec = json.loads(Path(arguments[0]).read_text())
    if spec["behaviour"] == "mute":
        signal.pause()
    stop = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def ring(word: str) -> None:
        bell.sendto(json.dumps([word, spec["name"], os.getpid()]).encode(), spec["bell"])

    ring("started")
    match spec["behaviour"]:
        case "serve":
            signal.sigwait(stop)
            ring("stopped")
            return 0
        case "crash":
            raise RuntimeError(f"{spec['name']} was told to crash")
        case "finish":
            return 0
        case "parent" | "parent of a leader":
            if os.fork() == 0:
                if spec["behaviour"] == "parent of a leader":
                    os.setsid()
                signal.alarm(60)  # whatever becomes of the test
                ring("born")
                signal.pause()
            signal.sigwait(stop)
            return 0
        case "stubborn":
            while True:
                signal.sigwait(stop)
        case "chatter":
            while signal.sigtimedwait(stop, 0.001) is None:
                print("x" * 4096, flush=True)
            return 0
        case "look":
            report = {
                "descriptors": descriptors(),
                "environment": dict(os.environ),
                "group": os.getpgid(0),
                "argv": sys.argv,
                "term_is_default": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
                "int_is_pythons": signal.getsignal(signal.SIGINT) == signal.default_int_handler,
                "numpy": "numpy" in sys.modules,
                "umask": os.umask(0o077),
            }
            Path(spec["report"]).write_text(json.dumps(report))
            ring("looked")
            signal.sigwait(stop)
            return 0
    raise ValueError(f"unknown behaviour {spec['behaviour']!r}")


def descriptors() -> dict[str, str]:
    """Number and target of every open descriptor but the one that lists them."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = str(path.readlink())
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
