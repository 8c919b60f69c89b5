"""A book: what one strategy holds of one symbol, and what it has gained with it. Exact, by the average price method.

It is kept apart from the OMS's ledger on purpose: limits that rest on the numbers they are to limit would miss their faults.
"""

from decimal import Decimal

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.order import signed

ZERO = Decimal(0)


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """`quantity` is signed. `realised` is after fees, in `currency`; `since_entry` is its part since the position was opened."""

    strategy: str
    symbol: str
    currency: str
    multiplier: Decimal
    quantity: Decimal = ZERO
    average_price: Decimal = ZERO
    realised: Decimal = ZERO
    since_entry: Decimal = ZERO

    def unrealised(self, mark: Decimal) -> Decimal:
        return (mark - self.average_price) * self.quantity * self.multiplier


def after_fill(book: Book, fill: Fill) -> tuple[Book, Decimal | None]:
    """The book after a fill, and the result of the trade that it ended, if it ended one: all from flat to flat, after fees.

    A fill that turns a position ends it and opens the other side at its price; its fee belongs to what it ends.
    """
    change = signed(fill.side, fill.quantity)
    before, after = book.quantity, book.quantity + change
    closed = min(abs(change), abs(before)) if before * change < 0 else ZERO
    gain = closed * (fill.price - book.average_price) * book.multiplier * (1 if before > 0 else -1) - fill.fee
    result = book.since_entry + gain
    is_over = closed > 0 and before * after <= 0
    if closed == 0:
        average_price = (book.average_price * abs(before) + fill.price * abs(change)) / abs(after)
    elif is_over:
        average_price = fill.price if after else ZERO
    else:
        average_price = book.average_price
    changed = msgspec.structs.replace(
        book,
        quantity=after,
        average_price=average_price,
        realised=book.realised + gain,
        since_entry=ZERO if is_over else result,
    )
    return changed, result if is_over else None


def after_payment(book: Book, amount: Decimal) -> Book:
    """A funding payment, positive when received."""
    return msgspec.structs.replace(book, realised=book.realised + amount, since_entry=book.since_entry + amount)
