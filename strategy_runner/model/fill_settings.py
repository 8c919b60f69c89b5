"""How the paper market treats an order: how late, how dear and how much of it it fills. And what a fill costs in fees."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec

from strategy_runner.model.position import ZERO

FEE_STEP = Decimal("1e-8")


class FeeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`maker` and `taker` are fractions of the notional (a maker's may be negative: a rebate), `per_share` is per unit of
    quantity, `minimum` per order; both in the instrument's currency."""

    maker: Decimal = ZERO
    taker: Decimal = ZERO
    per_share: Decimal = ZERO
    minimum: Decimal = ZERO


class FillSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults are a market without delay and cost, in which a resting limit order waits until the price trades through it.

    `latency_ns` passes from an order's event time until the market sees it. Market orders and stops pay slippage:
    `slippage_ticks`, `slippage_bps` of the price, half of `assumed_spread` (a fraction of the price; quotes have their real
    one), and `impact` times the square of the share of the volume they take, at most all (the price impact of zipline's
    VolumeShareSlippage). `participation` is the share of a trade's size, a quote's size or a bar's volume that one strategy's
    orders may take; None takes trades and bars as bottomless, and quotes at their size. It limits nothing where no size was
    recorded (see oms/fill_model.py).

    `queue` is when a trade at exactly the price of a resting limit order fills it: at once (`touch`), never (`through`), or
    after `queue_size` has traded there (`behind`; bars, which do not tell, as `through`).
    """

    latency_ns: int = 0
    slippage_ticks: int = 0
    slippage_bps: float = 0.0
    assumed_spread: float = 0.0
    impact: float = 0.0
    participation: float | None = None
    queue: Literal["touch", "through", "behind"] = "through"
    queue_size: float = 0.0
    fees: FeeSettings = FeeSettings()


def raw_fee(fees: FeeSettings, notional: Decimal, quantity: Decimal, liquidity: Literal["maker", "taker"]) -> Decimal:
    """Of one fill, before the minimum of its order."""
    fraction = fees.maker if liquidity == "maker" else fees.taker
    fee = fraction * abs(notional) + fees.per_share * quantity
    return fee.quantize(FEE_STEP, rounding=ROUND_HALF_EVEN)


def fee_due(fees: FeeSettings, raw_before: Decimal | None, raw: Decimal) -> Decimal:
    """What a fill pays. The order's first fill (`raw_before` None) pays the minimum; the later ones what exceeds it."""
    if not fees.minimum:
        return raw
    if raw_before is None:
        return max(fees.minimum, raw)
    return max(fees.minimum, raw_before + raw) - max(fees.minimum, raw_before)
