"""A decision log made of numbers: the same number gives the same decision in every process, also the awkward ones."""

from pathlib import Path

import msgspec

from strategy_runner.model.decision import Decision, Verdict
from strategy_runner.model.signal import Action, Cause, Envelope, ModelVote, SignalBody, canonical
from strategy_runner.sinks.duckdb_sink import DuckDbSink
from strategy_runner.sinks.interface import DeadLetterBox, Sink
from strategy_runner.sinks.quantconnect import QuantConnectSink

CLIENT = "ikenna"
SYMBOLS = ("BTC-USD", "ETH-USD", "BRK.B")
EPOCH_NS = 1_700_000_000_000_000_000
POISON_EVERY = 97


def log_of(count: int, start: int = 0) -> list[Decision]:
    return [decision(number) for number in range(start, start + count)]


def decision(number: int) -> Decision:
    """Mostly accepted buys, sells and closes; times that stand still and go back; now and then a poisoned body."""
    if number % POISON_EVERY == POISON_EVERY - 1:
        return msgspec.structs.replace(decided(body(number), number), body=b"\xff not a body")
    verdict: Verdict = "accepted" if number % 5 else "refused"
    return decided(body(number), number, verdict)


def poisoned(count: int) -> set[int]:
    return set(range(POISON_EVERY - 1, count, POISON_EVERY))


def body(number: int) -> SignalBody:
    action: Action = ("buy", "sell", "close")[number % 3]
    event_ns = EPOCH_NS + (number // 4) * 1_000_000 - (number % 11) * 2_000_000
    symbol = SYMBOLS[(number // 2) % len(SYMBOLS)]
    return SignalBody(
        id=f"{CLIENT}:swing.{symbol}@9f3c/{number}",
        client=CLIENT,
        strategy="swing",
        symbol=symbol,
        venue="binance",
        timeframe="1m",
        action=action,
        size=0.1 + number,
        entry_price=None if number % 2 else 100.25,
        stop_loss=99.0,
        take_profit=None,
        confidence=0.9,
        strength=0.5 if number % 7 == 0 else None,
        strategy_type="swing_high",
        models=tuple(_vote(number, model) for model in ("slow", "fast")[: number % 3]),
        cause=Cause(stream=f"{symbol}/bar.1m", ordinal=number, event_ns=event_ns, values=(1.0, 2.0)),
        reasons=('crossed, and "held"', "closes:long" if number % 2 else "closes:short"),
        refusal=None,
    )


def decided(signal: SignalBody, number: int = 0, verdict: Verdict = "accepted") -> Decision:
    return Decision(
        number=number,
        signal_id=signal.id,
        verdict=verdict,
        reason="" if verdict == "accepted" else "risk.max_position_notional",
        decided_ns=EPOCH_NS + number * 1_000,
        envelope=Envelope(
            n=number,
            seq=number * 3,
            epoch=1,
            mode="mock",
            received_ns=EPOCH_NS + number - 500,
            recorded_ns=EPOCH_NS + number,
            generation="9f3c",
        ),
        body=canonical(signal),
    )


def open_sink(kind: str, folder: Path, dead_letters: DeadLetterBox) -> Sink:
    if kind == "duckdb":
        return DuckDbSink(folder / "client.duckdb", CLIENT, dead_letters)
    return QuantConnectSink(folder, CLIENT, dead_letters)


def _vote(number: int, model: str) -> ModelVote:
    return ModelVote(
        model=model,
        score=0.5,
        confidence=0.8,
        weight=1.0,
        stream=f"BTC-USD/prediction.{model}.1m",
        ordinal=number,
        event_ns=EPOCH_NS + number,
    )
