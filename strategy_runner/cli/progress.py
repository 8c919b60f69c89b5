"""Progress bars, on stderr and only on a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strategy_runner.supervision.readiness import Progress as Ready


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Gives a function (done, total, word) that moves the bar."""
    if not sys.stderr.isatty():
        yield lambda done, total, word: None
        return
    from rich.console import Console  # slow to import, and of no use without a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[word]}"),
    )
    with Progress(*columns, console=screen, auto_refresh=False, transient=True) as progress:
        task = progress.add_task(title, total=None, word="")

        def move(done: int, total: int, word: str) -> None:
            progress.update(task, completed=done, total=total or None, word=word, refresh=True)

        yield move


@contextlib.contextmanager
def ready_bar(runs_over_history: bool) -> Iterator[Callable[["Ready"], None]]:
    """Counts ready processes, or records while a run over history goes on."""
    with bar("records" if runs_over_history else "ready") as move:

        def show(progress: "Ready") -> None:
            ready = f"{progress.ready} of {progress.processes} ready"
            if runs_over_history:
                move(progress.done, progress.total, ready)
            else:
                move(progress.ready, progress.processes, "")

        yield show
