"""Prints every record of a running feed, in the order of seq, with ZeroMQ alone: no file of the tape, no strategy_runner.

    python zeromq_consumer.py ipc://HOME/var/run/market-frames.sock [FIRST_SEQ]     default: from now on

Frames of one batch come stream by stream, so records wait in `held` until all before them are there. A beat says how many
records are published: one that is missing when it comes was lost, and is asked for on the repair socket. Both formats are
described in docs/zeromq_consumer.md.
"""

import signal
import struct
import sys

import zmq

PAIR = struct.Struct("<Q80s")  # seq, record
RECORD = struct.Struct("<IIqqIHBB6d")  # crc, stream, event_ns, received_ns, id, epoch, kind, flags, v0 to v5
RANGE = struct.Struct("<QQ")
KINDS = {
    1: "trade",
    2: "quote",
    3: "bar",
    4: "prediction",
    5: "funding",
    6: "news",
    7: "clock",
    8: "private",
    9: "gap",
    10: "clock_step",
}


def follow(endpoint: str, seq: int | None) -> None:
    context = zmq.Context()
    frames, repair = context.socket(zmq.SUB), context.socket(zmq.DEALER)
    frames.subscribe(b"")
    frames.connect(endpoint)
    repair.connect(endpoint.removesuffix(".sock") + "-repair.sock")
    poller = zmq.Poller()
    poller.register(frames, zmq.POLLIN)
    poller.register(repair, zmq.POLLIN)
    held: dict[int, bytes] = {}
    names: dict[int, str] = {}
    while True:
        for socket, _ in poller.poll():
            *topic, payload = socket.recv_multipart()
            if topic == [b"beat\0"]:
                count, _epoch = RANGE.unpack(payload)
                seq = count if seq is None else min(seq, count)  # fewer than before: a power cut took the last ones
                if seq < count:
                    repair.send(RANGE.pack(seq, count - 1))
                continue
            pairs = list(PAIR.iter_unpack(payload))
            if topic:
                names[RECORD.unpack(pairs[0][1])[1]] = topic[0].rstrip(b"\0").decode()
            elif pairs and seq is not None:
                seq = max(seq, pairs[0][0])  # an answer begins at the first record that is still kept
            if seq is not None:
                held.update((number, raw) for number, raw in pairs if number >= seq)
        while seq in held:
            show(seq, held.pop(seq), names)
            seq += 1


def show(seq: int, raw: bytes, names: dict[int, str]) -> None:
    _, stream, event_ns, _, _, _, kind, _, *values = RECORD.unpack(raw)
    print(seq, names.get(stream, f"#{stream}"), KINDS[kind], event_ns, *values[:5], flush=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # end without a word
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: zeromq_consumer.py ENDPOINT [FIRST_SEQ], such as ipc://var/run/market-frames.sock 0")
    follow(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
