"""Prepares the process that imports it as the zygote is prepared before its first fork; it is the server of PROCESSES."""

import gc

import benchmarks.latency  # noqa: F401  with all that its processes run
from strategy_runner.supervision.programs import ENTRY_MODULE
from strategy_runner.supervision.zygote import preload

gc.disable()  # as in the zygote; who is born collects
preload(ENTRY_MODULE, [ENTRY_MODULE])
gc.enable()
