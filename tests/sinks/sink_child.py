"""A process that does nothing but feed one sink from its cursor on, until it is done or killed.

Arguments: kind, folder, number of decisions, seed. Says "writing" once it is about to write.
"""

import os
import random
import sys
from pathlib import Path

from sink_decisions import log_of, open_sink

from strategy_runner.sinks.interface import DeadLetter


def main(kind: str, folder: Path, count: int, seed: int) -> None:
    box = os.open(folder.with_suffix(".letters"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def keep(letter: DeadLetter) -> None:
        os.write(box, f"{letter.number}\n".encode())

    luck = random.Random(seed)
    decisions = log_of(count)
    sink = open_sink(kind, folder, keep)
    start = sink.cursor()
    print("writing", start, flush=True)
    while start < count:
        sink.write(decisions[start : start + luck.randint(1, 40)])
        assert sink.cursor() > start
        start = sink.cursor()
    sink.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
