"""Ways to a port of this host on which something is wrong, as on a network."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def way_to(port: int, before: Callable[[int, bool], None]) -> Iterator[tuple[int, list[socket.socket]]]:
    """Its port, and the connections made over it. `before(connection, is_answer)` is called, and waited for, before anything is
    passed on."""
    made: list[socket.socket] = []
    ends: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket, connection: int, is_answer: bool) -> None:
        with suppress(OSError):
            while received := source.recv(1 << 16):
                before(connection, is_answer)
                sink.sendall(received)
            sink.shutdown(socket.SHUT_RDWR)

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client = listening.accept()[0]
                server = socket.create_connection(("127.0.0.1", port))
                number = len(made)
                made.append(client)
                ends.extend((client, server))
                threading.Thread(target=pump, args=(client, server, number, False), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, number, True), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, args=(listening,), daemon=True)
        thread.start()
        yield listening.getsockname()[1], made
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for end in ends:
            end.close()


@contextmanager
def sinkhole(port: int) -> Iterator[tuple[int, threading.Event]]:
    """A way whose first connection stands from the event on and passes nothing on any more, as through a middlebox that has
    forgotten it; later ones are sound."""
    frozen, over = threading.Event(), threading.Event()

    def before(connection: int, is_answer: bool) -> None:
        if connection == 0 and frozen.is_set():
            over.wait()
            raise OSError("the way is over")

    with way_to(port, before) as (way, _):
        yield way, frozen
        over.set()
