"""An order desk for tests: writes a client's fill log as a router does, and rings at the feed."""

from decimal import Decimal
from pathlib import Path

from worker.build import START_NS

from strategy_runner.bus.doorbell import FillDoorbell
from strategy_runner.model.fill import Fill
from strategy_runner.model.order import OmsEvent, OrderReport, OrderState, Side
from strategy_runner.model.position import Position
from strategy_runner.model.private import PrivateEntry, encode_private
from strategy_runner.tape.logs import AppendLog

D = Decimal


class FillDesk:
    """`bell` is where it rings: the feed's endpoint. Without one nobody hears of what it writes."""

    def __init__(self, path: Path, bell: str = "", *, client: str = "acme") -> None:
        self.path = path
        self.account = "acme-test"  # as in build.py
        self.entries: list[PrivateEntry] = []
        self._client = client
        self._log = AppendLog(path, permissions=0o600)
        self._bell = FillDoorbell(bell, client) if bell else None
        self._held: dict[str, Decimal] = {}

    def fill(
        self, worker: str, side: Side, quantity: str, price: str = "100", *, at_ns: int | None = None
    ) -> PrivateEntry:
        """One order of a worker is filled at once, and wholly."""
        strategy, _, symbol = worker.partition(".")
        number, size = len(self.entries), D(quantity)
        self._held[worker] = self._held.get(worker, D(0)) + (size if side == "buy" else -size)
        order_id, at_ns = f"o{number}", START_NS + number if at_ns is None else at_ns
        names = {"client": self._client, "account": self.account, "strategy": strategy, "symbol": symbol}
        fill = Fill(
            **names,
            fill_id=f"{order_id}-0",
            client_order_id=order_id,
            signal_id=f"s{number}",
            side=side,
            price=D(price),
            quantity=size,
            fee=D("0.25"),
            currency="USD",
            liquidity="taker",
            event_ns=at_ns,
        )
        report = OrderReport(
            client_order_id=order_id, client=self._client, state=OrderState.FILLED, quantity=size, filled=size
        )
        return self._write(worker, "fill", report, fill, Position(**names, quantity=self._held[worker]))

    def reject(self, worker: str, reason: str) -> PrivateEntry:
        strategy, _, symbol = worker.partition(".")
        report = OrderReport(
            client_order_id=f"o{len(self.entries)}",
            client=self._client,
            state=OrderState.REJECTED,
            quantity=D(1),
            reason=reason,
        )
        held = self._held.get(worker, D(0))
        position = Position(client=self._client, account=self.account, strategy=strategy, symbol=symbol, quantity=held)
        return self._write(worker, "rejected", report, None, position)

    def close(self) -> None:
        self._log.close()
        if self._bell is not None:
            self._bell.close()

    def _write(
        self, worker: str, kind: str, report: OrderReport, fill: Fill | None, position: Position
    ) -> PrivateEntry:
        number = len(self.entries)
        event = OmsEvent(
            number=number,
            client=self._client,
            kind=kind,  # type: ignore[arg-type]  # one of the two above
            event_ns=START_NS + number if fill is None else fill.event_ns,
            seq=0,
            report=report,
            fill=fill,
            account=self.account,
            strategy=position.strategy,
            symbol=position.symbol,
        )
        entry = PrivateEntry(number, worker, event, position, f"s{number}", "entry")
        self._log.append(encode_private(entry))
        self._log.sync()
        if self._bell is not None:
            self._bell.ring(self._log.offset)
        self.entries.append(entry)
        return entry
