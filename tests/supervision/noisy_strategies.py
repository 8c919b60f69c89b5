"""Strategies that harm their host, as the text of files in clients/CLIENT/strategies: each behaves until its tenth bar."""

_FRAME = '''
"""Misbehaves."""

{imports}
from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class {name}(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        self._bars = 0
        self._kept = []

    def on_bar(self, bar: Bar) -> None:
        self._bars += 1
        if self._bars > 10:
            self._misbehave()

    def _misbehave(self) -> None:
{body}
'''


def _strategy(name: str, body: str, imports: str = "") -> str:
    return _FRAME.format(name=name, imports=imports, body="\n".join(f"        {line}" for line in body.splitlines()))


NOISY = {
    "spinner": _strategy("Spinner", "while True:\n    pass"),
    "leaker": _strategy("Leaker", "self._kept.append(bytes([1]) * (8 << 20))"),
    "flooder": _strategy(
        "Flooder",
        'for _ in range(50):\n    logging.getLogger("flood").warning("%s", "x" * 4096)',
        "import logging\n",
    ),
    "crasher": _strategy("Crasher", 'raise RuntimeError("no luck today")'),
    # each life at another bar, as a leaker may on a busy host
    "wanderer": _strategy(
        "Wanderer",
        'if self._bars > 10 + getattr(getattr(posixpath, "o" + "s"), "getpid")() % 7:\n    raise RuntimeError("lost")',
        "import posixpath\n",
    ),
    # the guard reads the code, so it takes some trouble to get there
    "forker": _strategy("Forker", 'getattr(getattr(posixpath, "o" + "s"), "fo" + "rk")()', "import posixpath\n"),
}
