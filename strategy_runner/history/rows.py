"""The rows of a foreign file, batch by batch: text with fields, JSON arrays or JSON lines, plain, gzipped or in a zip.

Nothing is understood here beyond where a field ends. A row that does not have the mapped columns is named by its number
and goes no further; no row is lost without one. Blank lines are not rows.
"""

import csv
import gzip
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar, cast

import msgspec

from strategy_runner.errors import UsageError
from strategy_runner.history.mapping import ImportMapping

LINE_BYTES_MAX = 1 << 20
JSON_ARRAY_BYTES_MAX = 512 << 20
_TEXT_SUFFIXES = (".csv", ".txt", ".tsv")
_JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
_INDEX_DIGITS_MAX = 9
_MISSING = object()
T = TypeVar("T")


class RowBatch(msgspec.Struct, frozen=True):
    """`columns` holds for our column names the source's values of `rows`; `unreadable` are rows that lack some.

    Rows are numbered from 1: lines of a text, elements of a JSON array.
    """

    rows: list[int]
    columns: dict[str, list[object]]
    unreadable: list[int]


def read_rows(source: Path, mapping: ImportMapping, batch_rows: int) -> Iterator[RowBatch]:
    """Batches in the order of the file. Raises UsageError if the file, the member or a mapped column does not exist."""
    if not source.is_file():
        raise UsageError(f"{source}: expected a file, found {'a folder' if source.is_dir() else 'nothing'}")
    try:
        with _opened(source, mapping.member) as (name, stream):
            yield from _batches(
                f"{source}: {name}" if name != source.name else str(source), name, stream, mapping, batch_rows
            )
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{source}: expected a whole compressed file, found: {error}") from error


def _batches(place: str, name: str, stream: IO[bytes], mapping: ImportMapping, batch_rows: int) -> Iterator[RowBatch]:
    suffix = PurePosixPath(name.removesuffix(".gz")).suffix.lower()
    if suffix in _TEXT_SUFFIXES:
        return _text_batches(place, stream, mapping, batch_rows)
    if suffix in _JSON_LINES_SUFFIXES:
        elements = ((number, line) for number, line in _lines(stream) if line.strip())
        return _json_batches(place, elements, mapping, batch_rows)
    if suffix == ".json":
        return _json_batches(place, _array_elements(place, stream), mapping, batch_rows)
    expected = ", ".join((*_TEXT_SUFFIXES, ".json", *_JSON_LINES_SUFFIXES))
    raise UsageError(f"{place}: expected a file ending in {expected}, each plain, .gz or in a .zip, found {name!r}")


@contextmanager
def _opened(source: Path, member: str) -> Iterator[tuple[str, IO[bytes]]]:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            name = _one_member(source, archive.namelist(), member)
            try:
                stream = archive.open(name)
            except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a way Python cannot read
                raise UsageError(f"{source}: {name}: expected a readable member, found: {error}") from error
            with stream:
                yield name, stream
        return
    if member:
        raise UsageError(f"{source}: member: expected none for a file that is no .zip, found {member!r}")
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as plain:
        yield source.name, cast(IO[bytes], plain)


def _one_member(source: Path, names: list[str], member: str) -> str:
    files = [name for name in names if not name.endswith("/")]
    chosen = [name for name in files if fnmatchcase(name, member)] if member else files
    if len(chosen) != 1:
        found = f"{len(chosen)} of: {', '.join(files)}"
        raise UsageError(
            f"{source}: member: expected the name or pattern of one member, found {member!r}, which is {found}"
        )
    return chosen[0]


def _text_batches(place: str, stream: IO[bytes], mapping: ImportMapping, batch_rows: int) -> Iterator[RowBatch]:
    references = mapping.source_columns()
    records = ((number, _fields(line, mapping.delimiter)) for number, line in _lines(stream) if line.strip())
    named = any(not _is_index(reference) for reference in references.values())
    header = next(records, (0, None))[1] if named else None
    positions, width = dict.fromkeys(references, 0), 0
    if named:
        positions, width = _header_positions(place, header or [], references), len(header or [])
    for batch in _grouped(records, batch_rows):
        if not width:
            width = _usual_width(batch)
            positions = _index_positions(place, width, batch, references)
        whole = [(number, fields) for number, fields in batch if fields is not None and len(fields) == width]
        yield RowBatch(
            [number for number, _ in whole],
            {name: [fields[at] for _, fields in whole] for name, at in positions.items()},
            [number for number, fields in batch if fields is None or len(fields) != width],
        )


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; one too long to be a row comes cut, so that it is counted and not held."""
    number = 0
    while line := stream.readline(LINE_BYTES_MAX):
        number += 1
        rest = line
        while len(rest) == LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = stream.readline(LINE_BYTES_MAX)
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _fields(line: bytes, delimiter: str) -> list[str] | None:
    """The fields of a line, None if its quotes do not close: a stray quote must not swallow the lines after it."""
    text = line.decode("utf-8", errors="replace").rstrip("\r\n")
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return None


def _header_positions(place: str, header: list[str], references: dict[str, str]) -> dict[str, int]:
    names = [name.strip() for name in header]
    for ours, reference in references.items():
        if not _is_index(reference) and reference not in names:
            raise UsageError(
                f"{place}: columns: {ours}={reference}: expected a column of the file, found {', '.join(names)}"
            )
        if not _is_index(reference) and names.count(reference) > 1:
            raise UsageError(
                f"{place}: columns: {ours}={reference}: expected one column of that name, found {names.count(reference)}; state "
                f"its index from 0"
            )
        if _is_index(reference) and int(reference) >= len(names):
            raise UsageError(f"{place}: columns: {ours}={reference}: expected an index below {len(names)}")
    return {ours: int(name) if _is_index(name) else names.index(name) for ours, name in references.items()}


def _is_index(reference: str) -> bool:
    """Whether a column is referred to by its place, and not by a name that only looks like a number."""
    return reference.isascii() and reference.isdigit() and len(reference) <= _INDEX_DIGITS_MAX


def _usual_width(batch: list[tuple[int, list[str] | None]]) -> int:
    """Without a header most rows decide how many fields a row has, not a stray first line."""
    widths = Counter(len(fields) for _, fields in batch if fields is not None)
    return widths.most_common(1)[0][0] if widths else 0


def _index_positions(
    place: str, width: int, batch: list[tuple[int, list[str] | None]], references: dict[str, str]
) -> dict[str, int]:
    for ours, reference in references.items():
        if int(reference) >= width:
            example = next((fields for _, fields in batch if fields is not None and len(fields) == width), [])
            raise UsageError(
                f"{place}: columns: {ours}={reference}: expected an index below {width}, found rows such as {example}"
            )
    return {ours: int(reference) for ours, reference in references.items()}


def _array_elements(place: str, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    content = stream.read(JSON_ARRAY_BYTES_MAX + 1)
    if len(content) > JSON_ARRAY_BYTES_MAX:
        limit_mb = JSON_ARRAY_BYTES_MAX >> 20
        raise UsageError(
            f"{place}: expected a JSON array of at most {limit_mb} MB, found more; write it as JSON lines (.jsonl)"
        )
    try:
        elements = msgspec.json.decode(content, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"{place}: expected one JSON array with a row an element, found: {error}") from error
    return ((number, bytes(raw)) for number, raw in enumerate(elements, start=1))


def _json_batches(
    place: str, elements: Iterable[tuple[int, bytes]], mapping: ImportMapping, batch_rows: int
) -> Iterator[RowBatch]:
    finders = {ours: _finder(reference) for ours, reference in mapping.source_columns().items()}
    checked = False
    for batch in _grouped(elements, batch_rows):
        found = [(number, _decoded(raw)) for number, raw in batch]
        columns = {ours: [find(element) for _, element in found] for ours, find in finders.items()}
        if not checked:
            _check_paths(place, columns, found, mapping)
            checked = True
        lacking = [any(column[at] is _MISSING for column in columns.values()) for at in range(len(found))]
        yield RowBatch(
            [number for (number, _), lacks in zip(found, lacking, strict=True) if not lacks],
            {
                ours: [v for v, lacks in zip(column, lacking, strict=True) if not lacks]
                for ours, column in columns.items()
            },
            [number for (number, _), lacks in zip(found, lacking, strict=True) if lacks],
        )


def _decoded(raw: bytes) -> object:
    try:
        element: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # no JSON, or nested deeper than Python goes
        return _MISSING
    return element


def _finder(reference: str) -> Callable[[object], object]:
    """What a path such as info.price or 0 leads to in an element."""
    steps = reference.split(".")

    def find(element: object) -> object:
        for step in steps:
            if isinstance(element, dict) and step in element:
                element = element[step]
            elif isinstance(element, list) and _is_index(step) and int(step) < len(element):
                element = element[int(step)]
            else:
                return _MISSING
        return element

    return find


def _check_paths(
    place: str, columns: dict[str, list[object]], found: list[tuple[int, object]], mapping: ImportMapping
) -> None:
    for ours, column in columns.items():
        if all(value is _MISSING for value in column):
            first = next((element for _, element in found if element is not _MISSING), None)
            have = ", ".join(first) if isinstance(first, dict) else repr(first)
            raise UsageError(
                f"{place}: columns: {ours}={mapping.columns[ours]}: expected it in the rows, found {have[:200]}"
            )


def _grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group
