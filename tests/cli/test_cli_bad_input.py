"""Bad input at the command line: one clear message that says where, expected and found; the documented exit code; no harm."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.clients import CROSSOVER, LIVE_LIMITS
from end_to_end.harness import Firm, Ran, assert_one_message, told, until
from end_to_end.recordings import write_bars, write_market

from strategy_runner.config.home import STATE_VERSION
from strategy_runner.supervision.wishes import read_wishes

FAILURE, USAGE, NOT_RUNNING, CONFIGURATION, REFUSED, INTERRUPTED = 1, 2, 3, 6, 8, 130
FILE = "clients/acme/client.toml"


@pytest.fixture(scope="module")
def home() -> Iterator[Firm]:
    """One home for the faults that stop a command before anything runs."""
    with Firm() as firm:
        yield firm
        assert not firm.home.supervisor_socket.exists(), "no fault here may have started a daemon"


BROKEN_FILES = {
    "unknown key": (
        CROSSOVER.replace("stop_loss_fraction", "stop_los_fraction"),
        [
            'strategies[0].stop_los_fraction (cross): expected a known key, found "stop_los_fraction"',
            "stop_loss_fraction?",
        ],
    ),
    "wrong type": (
        CROSSOVER.replace('timeframe = "10s"', "timeframe = 10"),
        ["strategies[0].timeframe (cross): expected a timeframe such as 1s, 5m, 1h or 1d, found 10"],
    ),
    "garbage": ("routes = = nonsense [", ["line 1, column 10: expected TOML, found"]),
    "not even text": ("\x00\x01", ["expected TOML, found"]),
    "duplicate strategy id": (
        CROSSOVER + CROSSOVER[CROSSOVER.index("[[strategies]]") :],
        ['strategies[1].id (cross): expected an id of its own, found "cross" as in strategies[0]'],
    ),
    "unknown strategy": (
        CROSSOVER.replace("moving_average_crossover", "moving_avarage_crossover"),
        ["strategies[0] (cross): strategy: expected one of mean_reversion", "did you mean moving_average_crossover?"],
    ),
    "bad parameter": (
        CROSSOVER.replace("fast = 2", "fast = 0"),
        ["strategies[0] (cross): params.fast: expected int >= 1, found 0"],
    ),
    "strategy without models": (
        CROSSOVER.replace("moving_average_crossover", "swing_high").replace("params = { fast = 2, slow = 4 }", ""),
        ["strategies[0].models (cross): expected at least one, since swing_high reads predictions, found none"],
    ),
    "symbols not read": (
        CROSSOVER + 'extra_symbols = ["ETH-USD"]\n',
        [
            "strategies[0].extra_symbols (cross): expected none for the built-in moving_average_crossover, which reads one "
            "symbol, found ETH-USD"
        ],
    ),
    "no account": (
        CROSSOVER.replace('["BTC-USD"]', '["BTC-USD", "ETH-USD"]'),
        ["accounts.ETH-USD: expected { venue, account } for a symbol of cross, found nothing"],
    ),
    "unknown symbol": (
        CROSSOVER.replace("BTC-USD", "BTC-UDS"),
        [
            "strategies[0].symbols[0] (cross): expected an instrument of configs/local-dev.toml",
            'did you mean "BTC-USD"?',
        ],
    ),
    "route of a later day": (
        CROSSOVER.replace('"quantconnect"', '"bigquery"'),
        ["routes: bigquery: not available yet"],
    ),
    "live without a source": (
        'mode = "live"\n' + CROSSOVER + LIVE_LIMITS,
        ["live.source: expected a source, since clients/acme/client.toml asks for mode live, found nothing"],
    ),
}


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, Ran]]:
    """What `start` answers to each fault, each in a client of its own."""
    with Firm() as firm:
        for fault, (text, _) in BROKEN_FILES.items():
            firm.write(f"clients/{client_of(fault)}/client.toml", text)
        commands = [("start", client_of(fault), *(["--live"] * fault.startswith("live"))) for fault in BROKEN_FILES]
        yield dict(zip(BROKEN_FILES, firm.run_all(*commands), strict=True))
        assert not firm.home.supervisor_socket.exists(), "no fault here may have started a daemon"


def client_of(fault: str) -> str:
    return fault.replace(" ", "-")


@pytest.mark.parametrize("fault", BROKEN_FILES)
def test_a_broken_file_is_named_with_key_expected_and_found(answers: dict[str, Ran], fault: str) -> None:
    file = f"clients/{client_of(fault)}/client.toml"
    where = "configs/local-dev.toml: " if fault.startswith("live") else f"{file}: "
    words = [word.replace(FILE, file) for word in BROKEN_FILES[fault][1]]
    assert_one_message(answers[fault], CONFIGURATION, where, *words)


def test_check_finds_the_faults_of_all_clients_and_of_one_client_only_its_own(home: Firm) -> None:
    home.write(FILE, BROKEN_FILES["wrong type"][0])
    home.write("clients/beta/client.toml", BROKEN_FILES["bad parameter"][0])
    home.write("clients/sound/client.toml", CROSSOVER)
    every = home.run("check", code=CONFIGURATION)
    assert [line.partition(": ")[::2] for line in every.lines] == [
        ("error", f"{FILE}: {BROKEN_FILES['wrong type'][1][0]}"),
        ("error", f"clients/beta/client.toml: {BROKEN_FILES['bad parameter'][1][0]}"),
    ]
    assert every.err == f"error: 2 errors in {home.root}\n"
    assert home.run("check", "sound").err == "ok: sound\n"
    home.run("check", "acme", code=CONFIGURATION)
    for other in ("beta", "sound"):
        (home.root / "clients" / other / "client.toml").unlink()
        (home.root / "clients" / other).rmdir()


def test_a_client_without_its_file_is_told_where_it_should_be(home: Firm) -> None:
    (home.root / "clients" / "empty").mkdir()
    ran = home.run("start", "empty", code=None)
    assert_one_message(ran, CONFIGURATION, "clients/empty/client.toml: expected a readable file at", "no such file")
    (home.root / "clients" / "empty").rmdir()


@pytest.mark.parametrize(
    "code, words",
    [
        ("\nimport os\n\nraise RuntimeError('boom')\n", ["own.py: line 4: RuntimeError: boom"]),
        ("def broken(:\n", ["own.py: line 1: SyntaxError"]),
        ("import no_such_library\n", ["own.py: line 1: ModuleNotFoundError", "no_such_library"]),
    ],
)
def test_a_strategy_file_that_cannot_be_imported_is_named_with_its_line(
    home: Firm, code: str, words: list[str]
) -> None:
    home.write(FILE, CROSSOVER)
    own = home.write("clients/acme/strategies/own.py", code)
    assert_one_message(home.run("start", "acme", code=None), CONFIGURATION, "clients/acme/strategies/", *words)
    own.unlink()


@pytest.mark.parametrize("verb", ["check", "start"])
def test_a_symbol_that_a_strategys_code_reads_and_the_environment_does_not_have_is_told(home: Firm, verb: str) -> None:
    """The mock market made prices for it, about 100, whatever it is worth."""
    header = "from strategy_runner.strategies.interface import Inputs, Strategy\n"
    inputs = "inputs = Inputs(bars=True, symbols=('ETH-UDS', 'ETH-USD', 'GARBAGE'))"
    own = home.write("clients/acme/strategies/own.py", f"{header}class Own(Strategy):\n    {inputs}\n")
    text = CROSSOVER.replace("moving_average_crossover", "own").replace("params = { fast = 2, slow = 4 }", "")
    home.write(FILE, text)
    ran = home.run(verb, "acme", code=CONFIGURATION)
    where = "clients/acme/strategies/own.py: inputs.symbols: expected an instrument of configs/local-dev.toml, found "
    told_of = [line.removeprefix("error: ") for line in (ran.out + ran.err).splitlines() if where in line]
    assert told_of[0] == f"{where}ETH-UDS; did you mean ETH-USD?"
    assert told_of[1].startswith(f"{where}GARBAGE; it has BTC-USD, ")
    assert len(told_of) == 2
    own.unlink()


def test_a_secret_that_cannot_be_read_is_a_warning_that_shows_no_value(home: Firm) -> None:
    keys = """
[quantconnect]
project_id = { env = "ACME_PROJECT" }
api_key = { file = "/nowhere/key" }
"""
    home.write(FILE, CROSSOVER + keys)
    ran = home.run("check", "acme", environ={"ACME_PROJECT": "hush-hush"})
    assert ran.lines == [
        f'warning: {FILE}: quantconnect.api_key: secret {{ file = "/nowhere/key" }}: expected a readable file at '
        "/nowhere/key, found: no such file or directory"
    ]
    shown = home.run("show-config", "acme", environ={"ACME_PROJECT": "hush-hush"})
    assert "hush-hush" not in shown.out + ran.out
    assert any("quantconnect.project_id" in line and "ACME_PROJECT" in line for line in shown.lines)


def test_a_symbol_without_history_is_told_before_anything_starts(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    history = home.root / "history"
    (history / "trades").mkdir(parents=True, exist_ok=True)
    (history / "trades" / "BTC-USDT.parquet").touch()
    words = [FILE, str(history), "history of BTC-USD: expected trades/BTC-USD.parquet", "did you mean BTC-USDT?"]
    assert_one_message(home.run("backtest", "acme", "--history", history, code=None), CONFIGURATION, *words)
    asked = home.run("start", "acme", "--mode", "simulation", "--history", history, code=None)
    assert_one_message(asked, CONFIGURATION, *words)


OWN = """
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class Hourly(Strategy):
    Params = Params
    inputs = Inputs(bars=True, timeframes=("90s",))
"""


def test_a_timeframe_that_the_recorded_bars_cannot_make_is_told_before_anything_starts(home: Firm) -> None:
    history = home.root / "bars"
    write_bars(history, "BTC-USD", "1m", bars=9)
    expected = f"expected a multiple of 1m, the finest bars of BTC-USD in {history}, found"
    home.write(FILE, CROSSOVER)
    words = [FILE, f"strategies[0].timeframe (cross): {expected} 10s"]
    assert_one_message(home.run("backtest", "acme", "--history", history, code=None), CONFIGURATION, *words)
    asked = home.run("start", "acme", "--mode", "simulation", "--history", history, code=None)
    assert_one_message(asked, CONFIGURATION, *words)

    own = home.write("clients/acme/strategies/hourly.py", OWN)
    text = CROSSOVER.replace("moving_average_crossover", "hourly").replace('"10s"', '"5m"')
    home.write(FILE, "\n".join(line for line in text.splitlines() if not line.startswith("params")))
    words = [FILE, f"strategies[0] (cross): inputs.timeframes: {expected} 90s"]
    assert_one_message(home.run("backtest", "acme", "--history", history, code=None), CONFIGURATION, *words)
    own.unlink()


def test_history_must_be_said_and_be_there(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    assert_one_message(home.run("backtest", "acme", code=None), CONFIGURATION, "history.folder", "--history DIR")
    missing = home.run("backtest", "acme", "--history", "/nowhere", code=None)
    assert_one_message(missing, USAGE, "--history: expected a folder", "found nothing at /nowhere")


def test_a_variable_that_is_no_utf_8_is_named_and_not_shown(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    write_market(home.root / "history", "BTC-USD", seed=1, seconds=5, per_second=1)
    odd = home.root / os.fsdecode(b"odd\xff")
    (home.root / "history").rename(odd)
    ran = home.run("backtest", "acme", code=None, environ={"STRATEGY_RUNNER__HISTORY__FOLDER": str(odd)})
    assert_one_message(ran, USAGE, "expected variables in UTF-8, found 'STRATEGY_RUNNER__HISTORY__FOLDER'")


def test_live_needs_the_file_and_the_command_line_to_say_so(home: Firm) -> None:
    home.write(FILE, 'mode = "live"\n' + CROSSOVER + LIVE_LIMITS)
    assert_one_message(home.run("start", "acme", code=None), REFUSED, "expected --live on the command line, found none")
    home.write(FILE, CROSSOVER + LIVE_LIMITS)
    for asked in (["--live"], ["--live", "--mode", "live"]):
        ran = home.run("start", "acme", *asked, code=None)
        assert_one_message(ran, REFUSED, f'{FILE}: mode: expected "live"', 'found "mock"')


def test_an_unknown_client_is_answered_with_those_there_are(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    verbs = ("start", "stop", "restart", "status", "plan", "logs", "signals", "check", "show-config", "backtest")
    for ran in home.run_all(*((verb, "acne") for verb in verbs)):
        assert_one_message(ran, USAGE, "acne: expected a client of", "one of acme")


def test_an_unknown_strategy_is_answered_with_the_workers_there_are(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    for ran in home.run_all(*((verb, "acme:crass") for verb in ("start", "stop", "restart", "status", "plan", "logs"))):
        assert_one_message(ran, USAGE, "acme:crass: expected", "cross.BTC-USD")


def test_what_only_orders_can_have_is_told_of_where_there_are_none(home: Firm) -> None:
    text = CROSSOVER.replace('"resume"', '"flatten"') + 'sizing = { kind = "equity_fraction", fraction = 0.1 }\n'
    home.write(FILE, text)
    told = home.run("check", "acme")
    for key in ("sizing", "on_restart"):
        assert f"strategies[0].{key} (cross): valid, and without effect: without the route oms" in told.out + told.err
    home.write(FILE, text.replace('"quantconnect"', '"oms"'))
    assert home.run("check", "acme").err == "ok: acme\n"


def test_signals_that_never_came_are_not_an_empty_answer(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    assert_one_message(home.run("signals", "acme", code=None), USAGE, "acme: expected a run", "start it first")
    assert_one_message(home.run("sql", "acme", "SELECT 1", code=None), USAGE, "acme: expected a run", "start it first")
    for what in ("nonsense", "acme:cross"):
        assert_one_message(
            home.run("explain", what, code=None), USAGE, f"{what}: expected the id of a signal, order or"
        )


def test_a_command_line_that_makes_no_sense_is_answered_with_what_does(home: Firm) -> None:
    senseless = {
        ("strat",): ["No such command 'strat'", "start"],
        ("start",): ["Missing argument 'TARGET...'"],
        ("start", "acme", "--hystory", "x"): ["No such option", "--history"],
        ("start", "acme", "--mode", "mok"): ["'mok'", "mock"],
        ("backtest", "acme", "--from", "yesterday"): ["expected a moment such as 2026-01-05", "found 'yesterday'"],
        ("start", "acme", "--speed", "nan"): ["'--speed'", "expected a finite number, found nan"],
        ("start", "acme", "--speed", "inf"): ["expected a finite number, found inf"],
        ("restart", "acme", "--timeout", "nan"): ["'--timeout'", "expected a finite number"],
        ("status", "acme:"): ["target: expected CLIENT", "found 'acme:'"],
    }
    for ran, words in zip(home.run_all(*senseless), senseless.values(), strict=True):
        assert_one_message(ran, USAGE, *words)


def test_without_a_daemon_what_needs_one_says_so_and_what_does_not_works(home: Firm) -> None:
    home.write(FILE, CROSSOVER)
    for verb in (["restart", "acme"], ["apply"]):
        assert_one_message(home.run(*verb, code=None), NOT_RUNNING, "no daemon listens", "strategy-runner up")
    assert home.run("down").err == "no daemon is running\n"
    assert home.run("stop", "acme").err == "already stopped\n"
    assert home.status("acme")["acme:cross.BTC-USD"]["reason"] == "never started"


def test_a_folder_that_is_no_home_is_not_written_into(tmp_path: Path) -> None:
    with Firm(init=False) as firm:
        verbs = (["start", "all"], ["up"], ["supervise"], ["status"], ["stop", "all"], ["backtest", "acme"])
        for ran in firm.run_all(*verbs):
            assert_one_message(ran, CONFIGURATION, str(firm.root), "found")
        assert list(firm.root.iterdir()) == []


def test_a_home_whose_path_is_too_long_for_sockets_is_told_so_by_every_verb() -> None:
    with Firm(init=False) as firm:
        deep = firm.root / ("x" * 90)
        firm.run("init", deep)
        verbs = (["start", "all"], ["status"], ["down"], ["up"])
        for ran in firm.run_all(*(["--home", deep, *verb] for verb in verbs)):
            assert_one_message(ran, CONFIGURATION, "socket path: expected at most 107 bytes, found", "shorter path")
        check = firm.run("check", "--home", deep, code=CONFIGURATION)
        assert "socket path: expected at most 107 bytes" in check.out


def test_a_start_that_is_refused_leaves_the_run_before_it_and_wishes_for_nothing() -> None:
    with Firm() as firm:
        firm.write(FILE, CROSSOVER)
        write_market(firm.root / "history", "BTC-USD", seed=1, seconds=400, per_second=5)
        history = ("--history", firm.root / "history")
        firm.run("backtest", "acme", *history)
        before = firm.bodies("acme")
        template = firm.home.templates / "group.conf"
        template.rename(template.with_suffix(".away"))
        ran = firm.run("start", "acme", "--mode", "historical", *history, code=None)
        assert_one_message(ran, CONFIGURATION, str(template), "expected a template for supervisord")
        assert before and firm.bodies("acme") == before
        assert read_wishes(firm.home).clients == {}
        assert f"error: {template}: expected a template" in firm.run("check", code=CONFIGURATION).out


def test_check_refuses_a_home_whose_path_supervisord_cannot_read() -> None:
    with Firm(init=False) as firm:
        odd = firm.root / "o'brien"
        firm.run("init", odd)
        assert "expected none of" in firm.run("check", "--home", odd, code=CONFIGURATION).out


def test_init_never_writes_over_a_home(home: Firm) -> None:
    before = (home.root / "configs" / "local-dev.toml").read_bytes()
    assert_one_message(home.run("init", home.root, code=None), USAGE, "clients: expected no such folder yet, found one")
    assert (home.root / "configs" / "local-dev.toml").read_bytes() == before


# -- faults of a home that runs, or did -------------------------------------------------------------------------------


def test_a_second_daemon_on_the_same_home_is_refused_and_the_first_goes_on(firm: Firm) -> None:
    firm.write(FILE, CROSSOVER)
    firm.run("start", "acme")
    pids, daemon = firm.pids(), firm.daemon_pid
    assert_one_message(firm.run("supervise", code=None), FAILURE, "expected no other daemon on this home", str(daemon))
    assert f"pid {daemon}" in firm.run("up").err
    assert (firm.pids(), firm.daemon_pid) == (pids, daemon)


def test_sql_that_writes_or_is_wrong_is_refused_by_the_router(firm: Firm) -> None:
    firm.write(FILE, CROSSOVER)
    firm.run("start", "acme")
    refused = {
        "DELETE FROM signals": "DELETE",
        "COPY signals TO '/tmp/stolen.csv'": "COPY",
        "SELECT 1; DROP TABLE signals": "expected",
        "SELECT * FROM sgnals": 'Did you mean "signals"',
        "selec": "syntax error",
    }
    for ran, found in zip(firm.run_all(*(["sql", "acme", query] for query in refused)), refused.values(), strict=True):
        assert_one_message(ran, USAGE, "sql: ", found)
    assert firm.run("sql", "acme", "SELECT count(*) >= 0 AS whole FROM signals", "-o", "json").json() == {"whole": True}
    assert_one_message(firm.run("signals", "acme:crass", code=None), USAGE, "expected a strategy or worker of acme")
    unknown = firm.run("explain", "acme:cross.BTC-USD@0000/99999", code=None)
    assert_one_message(unknown, USAGE, "expected a decided signal of the mock run of acme, found none")


def test_wishes_that_cannot_be_read_stop_every_verb_and_say_which_file_to_remove(firm: Firm) -> None:
    firm.write(FILE, CROSSOVER)
    wishes = firm.write("var/daemon/wishes.json", "{nonsense")
    for ran in firm.run_all(["start", "acme"], ["stop", "acme"], ["status"], ["plan"], ["up"]):
        assert_one_message(ran, FAILURE, str(wishes), "expected what operators asked for", "remove")
    wishes.unlink()
    assert firm.run("status", "-o", "name").lines == ["acme:router", "acme:cross.BTC-USD"]


def test_a_state_folder_of_another_version_is_neither_used_nor_changed(firm: Firm) -> None:
    firm.write(FILE, CROSSOVER)
    version = firm.write("var/VERSION", "99\n")
    (firm.root / "history").mkdir()
    for ran in firm.run_all(["start", "acme"], ["up"], ["supervise"]):
        assert_one_message(
            ran, FAILURE, f"{version}: expected state version {STATE_VERSION}, found '99'", "move it away"
        )
    left = {str(path.relative_to(firm.home.var)) for path in firm.home.var.rglob("*") if path.is_file()}
    assert left <= {"VERSION", "daemon/operator.lock"}


def test_an_interrupt_ends_a_wait_without_traceback_and_leaves_the_daemon_at_work(firm: Firm) -> None:
    release = firm.root / "release"
    waits = f"import pathlib, select\nwhile not pathlib.Path({str(release)!r}).exists(): select.poll().poll(50)"
    firm.write("clients/acme/strategies/stuck.py", STUCK.replace("HIDDEN", waits.encode().hex()))
    firm.write(FILE, CROSSOVER.replace('"moving_average_crossover"', '"stuck"').replace("fast = 2, slow = 4", ""))
    waiting = firm.follow("start", "acme")
    until(lambda: firm.is_up() and firm.pids().get("acme:cross.BTC-USD"), "the stuck worker")
    os.killpg(waiting.pid, signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    release.touch()
    assert waiting.returncode == INTERRUPTED and "Traceback" not in err and out == "", err
    assert err.splitlines()[-1].startswith("interrupted")
    assert firm.pids()["acme:cross.BTC-USD"]


# What an operator gives up waiting for. No strategy may look at files: it does so in a way that the guard cannot read,
# nor see while it runs (from Python 3.13 on `time.sleep` has an audit event).
STUCK = """
from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class Stuck(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        exec(bytes.fromhex("HIDDEN"))

    def on_bar(self, bar: Bar) -> None:
        pass
"""


def test_messages_of_a_failed_command_fit_on_a_line_of_their_own(home: Firm) -> None:
    home.write(FILE, CROSSOVER.replace("fast = 2", "fast = 0").replace('"10s"', "10"))
    ran = home.run("start", "acme", code=CONFIGURATION)
    assert all(line.startswith("error: ") for line in ran.err.splitlines()), told(ran)
