"""The verb audit: whether a client's trail is whole, and what stands in it."""

import csv
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click
import msgspec

from strategy_runner.cli.output import output_option, show_json, talk
from strategy_runner.cli.signals import mode_option, run_of
from strategy_runner.cli.values import moment_ns
from strategy_runner.config.home import Home
from strategy_runner.errors import StateError, UsageError, naming
from strategy_runner.history.table_file import write_table
from strategy_runner.model.counted import counted
from strategy_runner.router.audit_check import Verified, sizes, verify
from strategy_runner.router.audit_log import audit_log
from strategy_runner.router.audit_rows import AuditRow, rows
from strategy_runner.tape.lock import holder

LOOKS = 4
LOOK_INTERVAL_S = 1.0
COLUMNS = {field.name: "BIGINT" if field.type is int else "VARCHAR" for field in msgspec.structs.fields(AuditRow)}


@click.command()
@click.argument("what", metavar="verify|export", type=click.Choice(["verify", "export"]))
@click.argument("client")
@click.option("--pinned", metavar="N:HASH", help="verify: entry N must have this hash, which was kept elsewhere.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json", "parquet"]),
    help="export: form of the rows [default: csv, and json with -o json].",
)
@click.option(
    "--to-file", type=click.Path(path_type=Path), help="export: where to; needed for parquet [default: stdout]."
)
@click.option("--from", "from_ns", type=moment_ns, default=None, metavar="TIME", help="export: first moment.")
@click.option("--to", "to_ns", type=moment_ns, default=None, metavar="TIME", help="export: moment at which it ends.")
@mode_option
@output_option
@click.pass_obj
def audit(
    home: Home,
    what: str,
    client: str,
    pinned: str | None,
    form: str | None,
    to_file: Path | None,
    from_ns: int | None,
    to_ns: int | None,
    mode: str | None,
    output: str,
) -> None:
    """Check the audit trail of a client, or export it.

    `verify` reads the whole chain of hashes and compares each entry with the log that it was copied from.
    """
    run = run_of(home, client, mode)
    folder = home.client_state(client, run)
    if not audit_log(folder).exists():
        raise UsageError(f"{client}: expected an audit trail of its {run} run, found none at {audit_log(folder)}")
    if what == "export":
        _export(rows(folder, from_ns or 0, to_ns or 0), form or ("json" if output == "json" else "csv"), to_file)
        return
    found = _verified(folder, _pin(pinned))
    if output == "json":
        show_json(found)
    elif output == "name":
        click.echo(f"{found.entries - 1}:{found.head}")
    else:
        click.echo(f"{client} {run}: {counted(found.entries, 'entry')} whole, head {found.entries - 1}:{found.head}")
    if found.broken:
        raise StateError(f"{audit_log(folder)}: {found.broken}")
    if found.missing:
        left = ", ".join(f"{count} of {source}" for source, count in found.missing.items())
        late = f"the router has not copied them for {LOOKS * LOOK_INTERVAL_S:g} s"
        why = late if holder(folder / "router") else "the router copies them at its next start"
        raise StateError(f"{audit_log(folder)}: expected all entries of its sources, found missing: {left}; {why}")


def _verified(folder: Path, pin: tuple[int, str] | None) -> Verified:
    """A running router's trail is about a second behind: it is given the time."""
    until = sizes(folder)
    for _ in range(LOOKS):
        found = verify(folder, until, pin)
        if found.broken or not found.missing or not holder(folder / "router"):
            break
        time.sleep(LOOK_INTERVAL_S)
    return found


def _pin(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    pin = re.fullmatch("([0-9]{1,19}):(.{64})", text)
    if pin is None:
        raise UsageError(f"--pinned: expected N:HASH as `audit verify` prints it, found {text!r}")
    return int(pin[1]), pin[2]


def _export(found: Iterator[AuditRow], form: str, path: Path | None) -> None:
    if form == "parquet":
        if path is None:
            raise UsageError("--to-file: expected a file for parquet, found none")
        count = write_table(path, COLUMNS, (msgspec.structs.astuple(row) for row in found))
        talk(f"{counted(count, 'entry')} in {path}")
        return
    if path is None:
        _write(found, form, sys.stdout)
        return
    with naming(path), path.open("w", newline="") as file:
        count = _write(found, form, file)
    talk(f"{counted(count, 'entry')} in {path}")


def _write(found: Iterator[AuditRow], form: str, file: TextIO) -> int:
    count = 0
    writer = csv.writer(file) if form == "csv" else None
    if writer is not None:
        writer.writerow(COLUMNS)
    for row in found:
        if writer is not None:
            writer.writerow(msgspec.structs.astuple(row))
        else:
            file.write(msgspec.json.encode(row).decode() + "\n")
        count += 1
    return count


COMMANDS = [audit]
