"""The columns of a recorded file: their names, in the order in which a record of the tape carries the values."""

import numpy as np
import numpy.typing as npt

from strategy_runner.model.record import Kind

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

VALUE_COLUMNS: dict[Kind, tuple[str, ...]] = {
    Kind.TRADE: ("price", "size", "side"),
    Kind.QUOTE: ("bid", "ask", "bid_size", "ask_size"),
    Kind.BAR: ("open", "high", "low", "close", "volume"),
}

# A row whose time is missing still has to be counted; no real time is the smallest int64 (the year 1677).
MISSING_NS = int(np.iinfo(np.int64).min)
