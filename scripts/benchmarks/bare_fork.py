"""The least that a worker could weigh: forked from a Python that has loaded ZeroMQ, with one context and one connected socket.

python -m benchmarks.bare_fork COUNT FOLDER      prints the process ids, one a line, and lives until its input ends
"""

import gc
import os
import sys

import zmq


def main(count: int, folder: str) -> None:
    gc.collect()
    gc.freeze()
    ready, born = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            _be_child(folder, born)
    os.close(born)
    pids = 0
    while pids < count:
        lines = os.read(ready, 65_536)
        os.write(1, lines)
        pids += lines.count(b"\n")
    sys.stdin.read()
    # the children are in our group and end with it
    os.killpg(0, 9)


def _be_child(folder: str, born: int) -> None:
    context = zmq.Context(io_threads=1)
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"X")
    socket.connect(f"ipc://{folder}/nobody")
    os.write(born, b"%d\n" % os.getpid())
    while True:
        socket.recv()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
