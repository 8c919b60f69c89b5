"""A tiny program for the tests: does what its spec, a JSON file, says, and rings a bell when it starts.

spec: {"name": ..., "bell": path of a datagram socket, "behaviour": "serve" | "crash" | "finish" | "stubborn" | "chatter"}
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    spec = json.loads(Path(arguments[0]).read_text())
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
        case "stubborn":
            while True:
                signal.sigwait(stop)
        case "chatter":
            while signal.sigtimedwait(stop, 0.001) is None:
                print("x" * 4096, flush=True)
            return 0
        case "look":
            report = {
                "descriptors": {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")},
                "environment": dict(os.environ),
                "group": os.getpgid(0),
                "argv": sys.argv,
                "term": str(signal.getsignal(signal.SIGTERM)),
                "int": str(signal.getsignal(signal.SIGINT)),
                "numpy": "numpy" in sys.modules,
                "umask": os.umask(0o077),
            }
            Path(spec["report"]).write_text(json.dumps(report))
            ring("looked")
            signal.sigwait(stop)
            return 0
    raise ValueError(f"unknown behaviour {spec['behaviour']!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
