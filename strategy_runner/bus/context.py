"""The one ZeroMQ context of a process, made by whoever puts the process together and passed on."""

from typing import TypeAlias

import zmq

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"


def new_context() -> Context:
    """A context with one I/O thread. Never made before a fork: threads do not survive it."""
    return zmq.Context(io_threads=1)
