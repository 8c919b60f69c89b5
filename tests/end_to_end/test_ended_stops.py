"""A position whose stop loss an OMS elsewhere has ended is told of wherever people look, until it is made flat."""

from decimal import Decimal
from pathlib import Path

from end_to_end.harness import Firm, until
from end_to_end.own_strategies import KEEPER
from oms.venue import VenueBackend
from oms_protocol.grpc_venue import GrpcVenue

CLIENT = """
routes = ["oms"]

[oms]
kind = "grpc"
address = "{address}"

[accounts]
BTC-USD = {{ venue = "binance", account = "main" }}

[[strategies]]
id = "kept"
strategy = "keeper"
symbols = ["BTC-USD"]
timeframe = "10s"
"""


def test_a_stop_that_its_oms_ended_is_told_of_until_the_worker_is_flat(firm: Firm, tmp_path: Path) -> None:
    venue = GrpcVenue(VenueBackend(tmp_path / "venue.log"))
    venue.start()
    try:
        keeper = KEEPER.replace("size=2.0", "size=2.0, stop_loss=trade.price / 2")
        firm.write("clients/acme/strategies/keeper.py", keeper)
        firm.write("clients/acme/client.toml", CLIENT.format(address=venue.address))
        firm.run("start", "acme")
        until(lambda: len(venue.backend.open_orders("acme")) == 2, "an entry and its stop at the OMS")
        entry, stop = venue.backend.open_orders("acme")
        venue.backend.fill("acme", entry.client_order_id)
        until(lambda: firm.run("positions", "acme", "-o", "name").lines, "the position")
        assert "without a stop loss" not in firm.run("positions", "acme").err
        venue.backend.cancel("acme", stop.client_order_id)

        word = f"holds 2 without a stop loss: order {stop.client_order_id} was cancelled: asked"
        until(lambda: f"acme:router: unprotected: kept.BTC-USD {word}" in firm.run("status", "acme").out, "its status")
        warned = firm.run("positions", "acme").err
        assert f"warning: acme:kept.BTC-USD {word}; `strategy-runner flatten acme:kept.BTC-USD" in warned
        found = [one for one in firm.run("doctor", "-o", "json", code=1).json() if one["check"] == "protection"]
        assert [(one["level"], one["subject"]) for one in found] == [("error", "acme:kept.BTC-USD")]

        venue.backend.fills = True
        firm.run("flatten", "acme:kept.BTC-USD", "--reason", "its stop has ended")
        until(lambda: "unprotected" not in firm.run("status", "acme").out, "nothing to tell")
        (held,) = venue.backend.positions("acme")
        assert held.quantity == Decimal(0)
        assert "without a stop loss" not in firm.run("positions", "acme").err
        assert "protection" not in firm.run("doctor", code=None).out
    finally:
        venue.stop()
