"""Every reason for which a router refuses or expires a signal, or ends an order itself, that is not risk's: with its sentence."""

from strategy_runner.router import appraiser, hand, order_flow, ruling

REASONS: dict[str, str] = {**ruling.REASONS, **appraiser.REASONS, **order_flow.REASONS, **hand.REASONS}
