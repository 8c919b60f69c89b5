"""What is wrong with the models' predictions, as a few warnings: it makes no signal, but somebody should know.

A model that is silent for a day would fill the log; so the 1st, 2nd, 4th, 8th ... fault of a model and reason is told.
"""

import logging
from collections import Counter
from collections.abc import Iterable

from strategy_runner.predictions.aggregation import REASONS, Fault

log = logging.getLogger(__name__)


class FaultLog:
    """Counts since the process began."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            key = fault.model, fault.reason
            self._counts[key] += 1
            count = self._counts[key]
            if count & (count - 1) == 0:
                log.warning(
                    "model %s: %s (%s): bar of %s at %d, no. %d of this kind",
                    fault.model,
                    fault.reason,
                    REASONS[fault.reason],
                    fault.symbol,
                    fault.event_ns,
                    count,
                )
