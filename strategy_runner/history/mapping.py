"""How the columns of a foreign file become ours: what the command line states, parsed exactly, with nothing guessed.

    columns    ts=0,open=1,high=2,low=3,close=4,volume=5    index from 0, header name, or path in JSON such as info.price
    time       s | ms | us | ns since 1970, ms-of-day:2013-10-07 since that midnight, or a pattern such as %Y%m%d %H%M%S%f
    zone       whose wall time the stamps are: an IANA name, UTC, or a fixed offset such as UTC-5
    stamp      open | close: which end of a bar the source stamps; ours is the close, so open adds one interval
    scale      number that prices are divided by
    sides      buy=buy,sell=sell    the source's word, then ours; a word not named means unknown
    delimiter  the character between fields of a text file, or tab
    member     name or pattern of one member of a zip

Bars quoted as bid and ask map bid_open .. bid_close and ask_open .. ask_close, and become their mean. A volume the source
does not have is stated as volume=none; it and sizes of quotes that are not mapped are NaN, which is unknown and not 0.
"""

import difflib
import math
from collections.abc import Iterable

import msgspec

from strategy_runner.errors import UsageError
from strategy_runner.history.stamps import StampParser
from strategy_runner.model.record import Kind

NO_VOLUME = "none"
_PRICES = ("open", "high", "low", "close")
_MID_PRICES = tuple(f"{side}_{price}" for side in ("bid", "ask") for price in _PRICES)
_REQUIRED: dict[Kind, tuple[tuple[str, ...], ...]] = {
    Kind.TRADE: (("ts", "price", "size"),),
    Kind.QUOTE: (("ts", "bid", "ask"),),
    Kind.BAR: (("ts", *_PRICES, "volume"), ("ts", *_MID_PRICES, "volume")),
}
_OPTIONAL: dict[Kind, tuple[str, ...]] = {Kind.TRADE: ("side",), Kind.QUOTE: ("bid_size", "ask_size"), Kind.BAR: ()}
_SIDES = {"buy": 1.0, "sell": -1.0}


class ImportMapping(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed statement. `columns` gives for our name the source's reference, as it was written."""

    columns: dict[str, str]
    stamps: StampParser
    stamp_is_open: bool = False
    scale: float = 1.0
    sides: dict[str, float] = msgspec.field(default_factory=lambda: dict(_SIDES))
    delimiter: str = ","
    member: str = ""

    @classmethod
    def parse(
        cls,
        *,
        columns: str,
        time: str,
        zone: str = "UTC",
        stamp: str = "close",
        scale: str = "1",
        sides: str = "buy=buy,sell=sell",
        delimiter: str = ",",
        member: str = "",
    ) -> "ImportMapping":
        """Raises UsageError naming the option, what was expected and what was found."""
        return cls(
            columns=_pairs("columns", columns),
            stamps=StampParser.parse(time, zone),
            stamp_is_open=_one_of("stamp", stamp, ("open", "close")) == "open",
            scale=_scale(scale),
            sides={
                word.lower(): _SIDES[_one_of("sides", ours, _SIDES)] for word, ours in _pairs("sides", sides).items()
            },
            delimiter=_delimiter(delimiter),
            member=member,
        )

    @property
    def is_mid(self) -> bool:
        """Bars given as bid and ask."""
        return "bid_open" in self.columns

    @property
    def has_volume(self) -> bool:
        return self.columns.get("volume") != NO_VOLUME

    def source_columns(self) -> dict[str, str]:
        """The columns that are to be looked for in the source."""
        return {name: reference for name, reference in self.columns.items() if name != "volume" or self.has_volume}

    def check_for(self, kind: Kind) -> None:
        """Raises UsageError unless the columns are those of the kind."""
        choices, optional = _REQUIRED[kind], _OPTIONAL[kind]
        known = {name for choice in choices for name in choice} | set(optional)
        for name in self.columns:
            if name not in known:
                raise UsageError(f"columns: {name}: expected one of {', '.join(sorted(known))}{_hint(name, known)}")
        required = choices[-1] if self.columns.keys() & set(_MID_PRICES) else choices[0]
        missing = [name for name in required if name not in self.columns]
        if missing:
            raise UsageError(
                f"columns: expected {', '.join(required)} for a {kind.name.lower()}, found no {', '.join(missing)}"
            )
        surplus = [name for name in self.columns if name not in (*required, *optional)]
        if surplus:
            raise UsageError(f"columns: expected {', '.join(required)} and no other, found {', '.join(surplus)} too")
        if self.stamp_is_open and kind is not Kind.BAR:
            raise UsageError(f"stamp: expected close for a {kind.name.lower()}, which has no length, found open")


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, equals, reference = (piece.strip() for piece in part.partition("="))
        if not (name and equals and reference):
            raise UsageError(f"{option}: expected NAME=REFERENCE pairs with commas between, found {part!r}")
        if name in pairs:
            raise UsageError(f"{option}: {name}: expected once, found twice")
        pairs[name] = reference
    return pairs


def _one_of(option: str, found: str, expected: Iterable[str]) -> str:
    if found not in expected:
        raise UsageError(f"{option}: expected one of {', '.join(expected)}, found {found!r}{_hint(found, expected)}")
    return found


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"scale: expected a number above 0, found {text!r}")
    return scale


def _delimiter(text: str) -> str:
    delimiter = "\t" if text == "tab" else text
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(f"delimiter: expected one character or tab, found {text!r}")
    return delimiter


def _hint(found: str, expected: Iterable[str]) -> str:
    close = difflib.get_close_matches(found, list(expected), n=1)
    return f"; did you mean {close[0]}?" if close else ""
