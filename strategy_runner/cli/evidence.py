"""Verbs about evidence: parity, replay, doctor."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.cli.progress import bar
from strategy_runner.cli.signal_lines import WORKER_CHARACTERS, SignalLines, moment
from strategy_runner.cli.table import Column
from strategy_runner.cli.values import moment_ns
from strategy_runner.config.home import Home
from strategy_runner.errors import UsageError
from strategy_runner.history.derivation_parity import DerivationParity
from strategy_runner.history.parity import Difference, WorkerParity
from strategy_runner.model.counted import counted
from strategy_runner.model.signal import SignalBody, decode_body, worker_of
from strategy_runner.monitor.doctor import examine
from strategy_runner.monitor.finding import Finding
from strategy_runner.monitor.host import look_at_host
from strategy_runner.supervision.parity import Parity, check_parity
from strategy_runner.supervision.replay import Change, Replayed, changes, run_replay
from strategy_runner.supervision.target import Target, parse_target

TAPE_MODES = ["mock", "simulation", "live"]
FIELDS_SHOWN = 6

_parallel_option = click.option(
    "--parallel", type=click.IntRange(min=1), default=None, metavar="N", help="Workers at a time [default: cores]."
)


def _of_a_recorded_run(command: Callable[..., int]) -> Callable[..., int]:
    """Which run, and which part of it: what `parity` and `replay` are asked alike."""
    for option in (
        click.option("--to", "to_ns", type=moment_ns, metavar="TIME", help="Moment at which it ends (not included)."),
        click.option("--from", "from_ns", type=moment_ns, metavar="TIME", help="First moment, by event time."),
        click.option(
            "--mode", type=click.Choice(TAPE_MODES), help="Run to read [default: the one under way, else the latest]."
        ),
        click.argument("target"),
    ):
        command = option(command)
    return command


@click.command()
@_of_a_recorded_run
@_parallel_option
@output_option
@click.pass_obj
def parity(
    home: Home,
    target: str,
    mode: str | None,
    from_ns: int | None,
    to_ns: int | None,
    parallel: int | None,
    output: str,
) -> int:
    """Run the recorded tape again and compare every signal.

    In fresh processes, byte for byte with what the workers recorded. Ends with 1 if anything differs.
    """
    with bar("workers") as show:
        found = check_parity(
            home,
            _of_client(target),
            mode,
            from_ns=from_ns or 0,
            to_ns=to_ns or 0,
            parallel=parallel or 0,
            environ=os.environ,
            show=show,
        )
    if output == "json":
        show_json(_parity_tree(found))
    elif output == "name":
        for one in found.workers:
            if not one.is_equal:
                click.echo(one.worker)
    else:
        _show_parity(found)
    return 0 if found.equal else 1


@click.command()
@_of_a_recorded_run
@click.option("--diff", is_flag=True, help="Show only what separates it from what was recorded then.")
@click.option("--body", is_flag=True, help="Print the canonical bodies alone, one a line.")
@_parallel_option
@output_option
@click.pass_obj
def replay(
    home: Home,
    target: str,
    mode: str | None,
    from_ns: int | None,
    to_ns: int | None,
    diff: bool,
    body: bool,
    parallel: int | None,
    output: str,
) -> int:
    """Run a recorded period with the files as they are now.

    Shows the signals that they would have given. Nothing is written and nothing is sent. Workers begin where they began
    when it was recorded; with --from they begin there anew, with as many bars before it as their strategy declares
    (warmup_bars): a built-in one declares none, and begins cold.
    """
    with bar("workers") as show:
        found = run_replay(
            home,
            _of_client(target),
            mode,
            from_ns=from_ns or 0,
            to_ns=to_ns or 0,
            parallel=parallel or 0,
            environ=os.environ,
            show=show,
        )
    if diff:
        _show_changes(changes(found), output)
    else:
        _show_signals(found.signals, output, body)
    talk(
        f"{counted(found.records, 'record')}, {counted(len(found.signals), 'signal')}; recorded then: {len(found.recorded)}"
    )
    if found.cold:
        talk(f"began cold at --from, with nothing of before: {', '.join(found.cold)}")
    for problem in found.problems:
        talk(f"error: {problem}")
    return 1 if found.problems else 0


@click.command()
@output_option
@click.pass_obj
def doctor(home: Home, output: str) -> int:
    """Check host, home, processes, tape and logs, and say what to do.

    Changes nothing, also while everything runs. Ends with 1 if there is an error.
    """
    with bar("checks") as show:
        findings = examine(home, look_at_host(home), os.environ, show)
    if output == "json":
        show_json(findings)
    elif output == "name":
        for check in dict.fromkeys(finding.check for finding in findings if finding.level == "error"):
            click.echo(check)
    else:
        _show_findings(findings)
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    talk(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}")
    return 1 if errors else 0


def _of_client(text: str) -> Target:
    target = parse_target(text)
    if target.client is None or target.program is not None:
        raise UsageError(f"{text}: expected CLIENT, CLIENT:STRATEGY or CLIENT:STRATEGY:SYMBOL")
    return target


# -- parity ------------------------------------------------------------------------------------------------------------


def _parity_tree(found: Parity) -> dict[str, Any]:
    """With a word for each worker and symbol, so that a program need not add up counts."""
    tree: dict[str, Any] = msgspec.to_builtins(found)
    for row, worker in zip(tree["workers"], found.workers, strict=True):
        row["equal"] = worker.is_equal
    for row, symbol in zip(tree["derivation"], found.derivation, strict=True):
        row["equal"] = symbol.is_equal
    return tree


def _show_parity(found: Parity) -> None:
    show_table(
        (
            Column("worker", folds=True),
            Column("result"),
            Column("records", right=True, spare=2),
            Column("signals", right=True, spare=1),
            *(Column(title, right=True) for title in ("different", "lost", "doubled", "alien")),
        ),
        ((w.worker, _word(w), w.records, w.signals, w.different, w.lost, w.doubled, w.alien) for w in found.workers),
    )
    if found.derivation:
        click.echo()
        show_table(
            (Column("derivation"), Column("result"), Column("records", right=True), Column("made again from")),
            ((d.symbol, _derivation_word(d), d.records, d.base or None) for d in found.derivation),
        )
    for worker in found.workers:
        for line in _worker_lines(worker):
            click.echo(line)
    for symbol in found.derivation:
        for line in (*filter(None, [symbol.first_difference]), *symbol.notes):
            click.echo(f"{symbol.symbol}: {line}")


def _word(worker: WorkerParity) -> str:
    return "equal" if worker.is_equal else "failed" if worker.problem else "different"


def _derivation_word(symbol: DerivationParity) -> str:
    return "different" if not symbol.is_equal else "equal" if symbol.records else "not checked"


def _worker_lines(worker: WorkerParity) -> list[str]:
    lines = [*filter(None, [worker.problem]), *worker.notes]
    if worker.first is not None:
        lines += _difference_lines(worker.first)
    return [f"{worker.worker}: {line}" for line in lines]


def _difference_lines(first: Difference) -> list[str]:
    lines = [f"first {first.kind}: signal {first.n} at seq {first.seq}"]
    lines += [f"  derived  {first.derived}"] if first.derived else []
    lines += [f"  recorded {first.recorded}"] if first.recorded else []
    lines += [f"  {field.path}: derived {field.derived}, recorded {field.recorded}" for field in first.fields]
    if first.input is not None:
        seq = "not kept" if first.input.seq is None else f"seq {first.input.seq}"
        lines.append(f"  input {first.input.stream} ordinal {first.input.ordinal}, {seq}: {first.input.word}")
    return lines


# -- replay ------------------------------------------------------------------------------------------------------------


def _show_signals(signals: Sequence[Replayed], output: str, body: bool) -> None:
    bodies = [decode_body(signal.body) for signal in signals]
    lines = SignalLines(max((len(worker_of(found.id)) for found in bodies), default=WORKER_CHARACTERS))
    if not body and output == "table":
        lines.show_header()
    for signal, found in zip(signals, bodies, strict=True):
        if body:
            click.echo(signal.body.decode())
        elif output == "json":
            show_json(_flat(signal, found))
        elif output == "name":
            click.echo(found.id)
        else:
            click.echo(lines.worded(found, *_ruled(found)))


def _ruled(body: SignalBody) -> tuple[str, str]:
    return ("passed", "") if body.refusal is None else ("refused", body.refusal)


def _flat(signal: Replayed, body: SignalBody) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(body)
    cause = tree.pop("cause")
    return {**tree, "event_ns": cause["event_ns"], "cause": cause, "seq": signal.seq}


def _show_changes(found: Sequence[Change], output: str) -> None:
    if output == "json":
        for change in found:
            body = decode_body(change.signal.body)
            show_json({"change": change.kind, **_flat(change.signal, body), "fields": change.fields})
        return
    if output == "name":
        for change in found:
            click.echo(decode_body(change.signal.body).id)
        return
    show_table(
        (
            Column("change"),
            Column("event time (UTC)"),
            Column("worker", folds=True),
            Column("action"),
            Column("what", folds=True),
        ),
        (_change_row(change) for change in found),
    )


def _change_row(change: Change) -> tuple[str, str, str, str, str]:
    body = decode_body(change.signal.body)
    if change.fields:
        told = [f"{field.path} {field.recorded} -> {field.derived}" for field in change.fields[:FIELDS_SHOWN]]
        more = len(change.fields) - len(told)
        what = "; ".join([*told, f"and {more} more"] if more else told)
    else:
        what = "; ".join([body.refusal or "passed", *body.reasons])
    worker = f"{body.client}:{body.strategy}.{body.symbol}"
    return change.kind, moment(body.cause.event_ns), worker, body.action, what


# -- doctor ------------------------------------------------------------------------------------------------------------


def _show_findings(findings: Sequence[Finding]) -> None:
    columns = (Column("level"), Column("check"), Column("subject", folds=True), Column("what", folds=True))
    show_table(columns, ((f.level, f.check, f.subject, _what(f)) for f in findings))


def _what(finding: Finding) -> str:
    if finding.level == "ok":
        return finding.found
    return f"expected {finding.expected}, found {finding.found}; {finding.advice}"


COMMANDS = [parity, replay, doctor]
