"""What a sink holds, as one value: two sinks that were fed the same decisions must give equal ones."""

from pathlib import Path

import duckdb


def contents(kind: str, folder: Path) -> object:
    """Read from the disk alone; the sink must be closed."""
    return _tables(folder / "client.duckdb") if kind == "duckdb" else _files(folder / "signals")


def _tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with duckdb.connect(str(path), read_only=True) as database:
        queries = {
            "signals": "SELECT * FROM signals ORDER BY number",
            "signal_models": "SELECT * FROM signal_models ORDER BY number, model",
            "watermark": "SELECT max(next_number) FROM watermark",
        }
        return {name: database.execute(query).fetchall() for name, query in queries.items()}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
