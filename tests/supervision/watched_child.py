"""A process for the watchdog's tests: writes a status page and behaves as it is told, then waits to be killed.

python watched_child.py FOLDER BEHAVIOUR [STATE]
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from strategy_runner.tape.status import State, StatusFile


def main(folder: Path, behaviour: str, state: State) -> None:
    page = StatusFile(folder / "status")
    page.applying = 0
    page.status.position = 500
    page.enter(state)
    match behaviour:
        case "silent":
            pass
        case "beat" | "beat with a word":
            page.status.last_error = "no space left on device" * (behaviour != "beat")
            while True:
                page.write()
                time.sleep(0.005)
        case "work":  # one long batch: no page is written, but each record shows
            page.applying = 1
            while True:
                page.applying += 1
                time.sleep(0.005)
        case "hang":
            page.applying = 813
        case "spin":
            page.applying = 813
            while True:
                pass
        case "leak":
            hoard = bytearray(os.urandom(1 << 20) * 160)
            page.status.last_error = f"{len(hoard)} bytes"
            page.write()
        case "fork" | "fork and end" | "fork away":
            away = behaviour == "fork away"
            child = subprocess.Popen(["sleep", "600"], start_new_session=away, stdout=subprocess.DEVNULL)
            (folder / "child").write_text(str(child.pid))
            if behaviour == "fork and end":
                os._exit(3)
    while True:
        time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], State[sys.argv[3]] if len(sys.argv) > 3 else State.FOLLOWING)
