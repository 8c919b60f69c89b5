"""A connection of tests that stands and passes nothing on any more, as through a middlebox that has forgotten it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def sinkhole(port: int) -> Iterator[tuple[int, threading.Event]]:
    """A way to a port. From the event on its first connection stands and passes nothing on; later ones are sound."""
    frozen, over = threading.Event(), threading.Event()
    ends: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket, freezes: bool) -> None:
        with suppress(OSError):
            while received := source.recv(1 << 16):
                if freezes and frozen.is_set():
                    over.wait()
                    return
                sink.sendall(received)
            sink.shutdown(socket.SHUT_RDWR)

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client = listening.accept()[0]
                server = socket.create_connection(("127.0.0.1", port))
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=(source, sink, not ends), daemon=True).start()
                ends.extend((client, server))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, args=(listening,), daemon=True)
        thread.start()
        yield listening.getsockname()[1], frozen
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for end in ends:
            end.close()
