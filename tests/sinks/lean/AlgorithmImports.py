"""Stands in for LEAN's AlgorithmImports: just enough of its types for our reader to run. The rules are in lean_rules.py."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto
from typing import Any, NamedTuple


class SubscriptionTransportMedium(Enum):
    REMOTE_FILE = auto()
    OBJECT_STORE = auto()


class FileFormat(Enum):
    CSV = auto()


class SubscriptionDataConfig(NamedTuple):
    symbol: str


class SubscriptionDataSource(NamedTuple):
    source: str
    medium: SubscriptionTransportMedium
    format: FileFormat


class BaseData:
    symbol: str
    value: float


class PythonData(BaseData):
    """`time` and `end_time` are one moment unless both are set; members set by index are attributes in lower case."""

    def __init__(self) -> None:
        self._time: datetime | None = None
        self._end_time: datetime | None = None

    @property
    def time(self) -> datetime | None:
        return self._time

    @time.setter
    def time(self, moment: datetime) -> None:
        self._time = moment

    @property
    def end_time(self) -> datetime | None:
        return self._end_time or self._time

    @end_time.setter
    def end_time(self, moment: datetime) -> None:
        self._end_time = moment
        self._time = self._time or moment

    def __setitem__(self, name: str, value: object) -> None:
        setattr(self, name.lower(), value)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name.lower())
