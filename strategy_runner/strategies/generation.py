"""A generation: 8 hex digits for everything that decides what a worker signals. New code never answers for old code.

Two workers of one generation, given the same records, write the same signal bodies. So whatever can change a body goes
in; what cannot (limits, log level, folders) stays out, and changing it keeps the worker's snapshot and its ids.
"""

import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import strategy_runner
from strategy_runner.config.spec import ModelSpec, PaperSpec, ProtectionSpec
from strategy_runner.strategies import indicators, interface
from strategy_runner.strategies.client_code import code_path
from strategy_runner.strategies.interface import Params, Strategy
from strategy_runner.strategies.kept_code import code_files


def generation(
    code_digest: str,
    *,
    params: Params | Mapping[str, Any],
    timeframe: str,
    models: Sequence[ModelSpec],
    size: float,
    protection: ProtectionSpec,
    extra_symbols: Sequence[str],
    venue: str = "",
    account: str = "",
    has_fills: bool = False,
    paper: PaperSpec | None = None,
    is_observed: bool = False,
) -> str:
    """8 hex digits of BLAKE2b over the canonical JSON of the arguments and the versions that matter.

    `params` should be complete (Params, or Resolved.params of describe.py), so that writing a default out changes
    nothing. `venue` is part of a signal's body. A strategy that holds what was filled (`has_fills`), or what it fills itself
    (`paper`), is another one than one that holds what it asked for, and another one in each `account`; and one that is only
    observed has nothing to do with the positions of one that trades.
    """
    position: object = "observed" if is_observed else "signals"
    if paper is not None or has_fills:
        position = (paper or "fills", account)
    versions = {
        "strategy_runner": strategy_runner.__version__,
        "numpy": np.__version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    decided_by = {
        "code": code_digest,
        "params": params,
        "timeframe": timeframe,
        "models": list(models),
        "size": float(size),
        "protection": protection,
        "extra_symbols": list(extra_symbols),
        "venue": venue,
        "position": position,
        "versions": versions,
    }
    return blake2b(msgspec.json.encode(decided_by, order="sorted"), digest_size=4).hexdigest()


def code_digest(strategy: type[Strategy]) -> str:
    """32 hex digits over a strategy's name and the source it runs on.

    The rule: the files of the class and of the strategies it inherits from, interface.py and indicators.py, and for a
    client's strategy every code file below the client's strategies folder, since any of them may be imported. Editing one
    gives all of this client's own strategies a new generation: never too few. The rest of the product is covered by
    its version. Paths count relative to their folder, so a home may move.
    """
    files = {Path(module.__file__ or "").name: Path(module.__file__ or "") for module in (interface, indicators)}
    for ancestor in strategy.__mro__:
        if issubclass(ancestor, Strategy) and not code_path(ancestor):
            source = Path(sys.modules[ancestor.__module__].__file__ or "")
            files[source.name] = source
    code = code_path(strategy)
    if code:
        files |= {f"client/{name}": path for name, path in code_files(Path(code).parent).items()}

    digest = blake2b(strategy.__qualname__.encode(), digest_size=16)
    for name in sorted(files):
        source_bytes = files[name].read_bytes()
        digest.update(f"\0{name}\0{len(source_bytes)}\0".encode())
        digest.update(source_bytes)
    return digest.hexdigest()
