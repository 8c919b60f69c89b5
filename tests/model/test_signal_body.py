"""The canonical bytes of a signal: identity, digest and every comparison are over them."""

import math

import msgspec

from strategy_runner.model.event import Quote
from strategy_runner.model.signal import Cause, ModelVote, SignalBody, canonical, decode_body, digest, signal_id

BODY = SignalBody(
    id=signal_id("ikenna:swing.BTC-USD", "0badcafe", 4),
    client="ikenna",
    strategy="swing",
    symbol="BTC-USD",
    venue="binance",
    timeframe="1m",
    action="buy",
    size=0.1,
    entry_price=30000.5,
    stop_loss=None,
    take_profit=None,
    confidence=0.8,
    strength=None,
    strategy_type="swing_high",
    models=(
        ModelVote(
            model="m1",
            score=0.5,
            confidence=0.8,
            weight=1.0,
            stream="BTC-USD/prediction.m1.1m",
            ordinal=3,
            event_ns=60_000_000_000,
        ),
    ),
    cause=Cause(stream="BTC-USD/bar.1m", ordinal=3, event_ns=60_000_000_000, values=(1.0, 2.0, 0.1 + 0.2, None)),
    reasons=("swing",),
    refusal=None,
)


def test_the_bytes_of_a_body_are_these() -> None:
    """Written out in full on purpose: signals recorded years ago are compared with these bytes."""
    assert canonical(BODY) == (
        b'{"id":"ikenna:swing.BTC-USD@0badcafe/4","client":"ikenna","strategy":"swing","symbol":"BTC-USD",'
        b'"venue":"binance","timeframe":"1m","action":"buy","size":0.1,"entry_price":30000.5,"stop_loss":null,'
        b'"take_profit":null,"confidence":0.8,"strength":null,"strategy_type":"swing_high",'
        b'"models":[{"model":"m1","score":0.5,"confidence":0.8,"weight":1.0,"stream":"BTC-USD/prediction.m1.1m",'
        b'"ordinal":3,"event_ns":60000000000}],"cause":{"stream":"BTC-USD/bar.1m","ordinal":3,'
        b'"event_ns":60000000000,"values":[1.0,2.0,0.30000000000000004,null]},"reasons":["swing"],"refusal":null}'
    )


def test_a_body_and_its_bytes_are_one_thing() -> None:
    assert decode_body(canonical(BODY)) == BODY
    assert canonical(decode_body(canonical(BODY))) == canonical(BODY)


def test_the_digest_differs_when_anything_differs() -> None:
    other = msgspec.structs.replace(BODY, size=math.nextafter(0.1, 1.0))
    assert len(digest(canonical(BODY))) == 16
    assert digest(canonical(BODY)) == digest(canonical(decode_body(canonical(BODY))))
    assert digest(canonical(other)) != digest(canonical(BODY))


def test_the_mid_of_a_quote_lies_between_bid_and_ask() -> None:
    assert Quote("X", 1, 99.0, 101.0).mid == 100.0
