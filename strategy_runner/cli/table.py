"""A table as lines of text that fit a terminal: whole in a pipe; on a narrow screen less important columns go first, and then
texts and names take more lines.

What does not fit even then stands one value a line. No value is ever cut short.
"""

import re
import textwrap
from collections.abc import Callable, Sequence

import msgspec

GAP = "  "
FOLDED_CHARACTERS_MIN = 16
# where a name may be parted, best first: christian:revert.SOL-USD, clients/christian/client.toml, order_outcome_unknown
_NAME_PARTS = (r"(?<=[:.@/])", r"(?<=[_-])")
Style = Callable[[str], str]


class Column(msgspec.Struct, frozen=True):
    """`right` is for numbers. `spare` columns may be left out, the highest first; `folds` may take more lines."""

    title: str
    right: bool = False
    spare: int = 0
    folds: bool = False


class Table(msgspec.Struct, frozen=True):
    """`rows` hold the texts of cells, one for each column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def fitted(self, width: int) -> tuple["Table", list[str]]:
        """The table without the spare columns that `width` has no room for, and their titles; whole where it is too narrow for
        the others as well, since a list of values has room for all."""
        left_out: list[str] = []
        table = self
        while table._width() > width and any(column.spare for column in table.columns):
            worst = max(range(len(table.columns)), key=lambda index: table.columns[index].spare)
            left_out.append(table.columns[worst].title)
            table = Table(_without(table.columns, worst), [_without(row, worst) for row in table.rows])
        return (table, left_out) if table._folded_widths(width) is not None else (self, [])

    def lines(self, width: int | None, style: Style = str, bold: Style = str) -> list[str]:
        """At most `width` characters each; None is as wide as it needs. `style` colours a cell, `bold` a title."""
        widths = self._widths() if width is None else self._folded_widths(width)
        return self._listed(style, bold) if widths is None else self._aligned(widths, style, bold)

    def _widths(self) -> list[int]:
        return [
            max([len(column.title), *(len(row[index]) for row in self.rows)])
            for index, column in enumerate(self.columns)
        ]

    def _folded_widths(self, width: int) -> list[int] | None:
        """Widths that add up to `width` at most, the widest column that may fold giving first; None if there are none."""
        widths = self._widths()
        while sum(widths) + len(GAP) * (len(widths) - 1) > width:
            folding = [index for index, column in enumerate(self.columns) if column.folds]
            widest = max(folding, key=widths.__getitem__, default=None)
            if widest is None or widths[widest] <= FOLDED_CHARACTERS_MIN:
                return None
            widths[widest] -= 1
        return widths

    def _width(self) -> int:
        return sum(self._widths()) + len(GAP) * (len(self.columns) - 1)

    def _aligned(self, widths: Sequence[int], style: Style, bold: Style) -> list[str]:
        shown = [self._line([column.title for column in self.columns], widths, bold)]
        for row in self.rows:
            folded = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
            for part in range(max(map(len, folded))):
                shown.append(self._line([cell[part] if part < len(cell) else "" for cell in folded], widths, style))
        return shown

    def _line(self, cells: Sequence[str], widths: Sequence[int], style: Style) -> str:
        padded = []
        for column, cell, width in zip(self.columns, cells, widths, strict=True):
            space = " " * (width - len(cell))
            padded.append(space + style(cell) if column.right else style(cell) + space)
        return GAP.join(padded).rstrip()

    def _listed(self, style: Style, bold: Style) -> list[str]:
        title_width = max(len(column.title) for column in self.columns)
        shown: list[str] = []
        for number, row in enumerate(self.rows, 1):
            shown.append(bold(f"row {number}"))
            for column, cell in zip(self.columns, row, strict=True):
                shown.append(f"{column.title:<{title_width}}{GAP}{style(cell)}".rstrip())
        return shown


def _folded(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width) if " " in cell else _name_folded(cell, width, _NAME_PARTS)


def _name_folded(name: str, width: int, ends: Sequence[str]) -> list[str]:
    """A name is parted where its parts end, and within a part only where that alone is too long."""
    lines = [""]
    for part in re.split(ends[0], name) if ends else textwrap.wrap(name, width):
        if len(lines[-1]) + len(part) <= width:
            lines[-1] += part
        else:
            lines += [part] if len(part) <= width else _name_folded(part, width, ends[1:])
    return [line for line in lines if line]


def _without(items: Sequence[object], index: int) -> list:  # type: ignore[type-arg]  # columns or cells, as given
    return [*items[:index], *items[index + 1 :]]
