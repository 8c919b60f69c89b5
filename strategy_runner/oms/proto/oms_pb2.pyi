from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OpenSessionRequest(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    def __init__(self, client: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("oms", "session", "next")
    OMS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    oms: str
    session: str
    next: int
    def __init__(self, oms: _Optional[str] = ..., session: _Optional[str] = ..., next: _Optional[int] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("client", "session", "orders")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    client: str
    session: str
    orders: _containers.RepeatedCompositeFieldContainer[OrderRequest]
    def __init__(self, client: _Optional[str] = ..., session: _Optional[str] = ..., orders: _Optional[_Iterable[_Union[OrderRequest, _Mapping]]] = ...) -> None: ...

class ModifyRequest(_message.Message):
    __slots__ = ("client", "session", "change")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    client: str
    session: str
    change: OrderChange
    def __init__(self, client: _Optional[str] = ..., session: _Optional[str] = ..., change: _Optional[_Union[OrderChange, _Mapping]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("client", "session", "client_order_id")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    client: str
    session: str
    client_order_id: str
    def __init__(self, client: _Optional[str] = ..., session: _Optional[str] = ..., client_order_id: _Optional[str] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("client", "session", "client_order_ids")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_IDS_FIELD_NUMBER: _ClassVar[int]
    client: str
    session: str
    client_order_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, client: _Optional[str] = ..., session: _Optional[str] = ..., client_order_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ClientRequest(_message.Message):
    __slots__ = ("client", "session")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    client: str
    session: str
    def __init__(self, client: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("client", "session", "from_number", "limit")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FROM_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    client: str
    session: str
    from_number: int
    limit: int
    def __init__(self, client: _Optional[str] = ..., session: _Optional[str] = ..., from_number: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("client", "from_number")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    FROM_NUMBER_FIELD_NUMBER: _ClassVar[int]
    client: str
    from_number: int
    def __init__(self, client: _Optional[str] = ..., from_number: _Optional[int] = ...) -> None: ...

class Reports(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[OrderReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[OrderReport, _Mapping]]] = ...) -> None: ...

class QueryAnswer(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedCompositeFieldContainer[Found]
    def __init__(self, found: _Optional[_Iterable[_Union[Found, _Mapping]]] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: OrderReport
    def __init__(self, report: _Optional[_Union[OrderReport, _Mapping]] = ...) -> None: ...

class Holdings(_message.Message):
    __slots__ = ("positions",)
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("events", "next")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[OmsEvent]
    next: int
    def __init__(self, events: _Optional[_Iterable[_Union[OmsEvent, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class News(_message.Message):
    __slots__ = ("event", "next")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    event: OmsEvent
    next: int
    def __init__(self, event: _Optional[_Union[OmsEvent, _Mapping]] = ..., next: _Optional[int] = ...) -> None: ...

class OrderRequest(_message.Message):
    __slots__ = ("client_order_id", "client", "account", "venue", "strategy", "symbol", "signal_id", "leg", "side", "type", "quantity", "event_ns", "limit_price", "stop_price", "trail", "time_in_force", "expires_ns", "reduce_only", "bracket")
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_ID_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    EVENT_NS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PRICE_FIELD_NUMBER: _ClassVar[int]
    STOP_PRICE_FIELD_NUMBER: _ClassVar[int]
    TRAIL_FIELD_NUMBER: _ClassVar[int]
    TIME_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    BRACKET_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    client: str
    account: str
    venue: str
    strategy: str
    symbol: str
    signal_id: str
    leg: str
    side: str
    type: str
    quantity: str
    event_ns: int
    limit_price: str
    stop_price: str
    trail: str
    time_in_force: str
    expires_ns: int
    reduce_only: bool
    bracket: str
    def __init__(self, client_order_id: _Optional[str] = ..., client: _Optional[str] = ..., account: _Optional[str] = ..., venue: _Optional[str] = ..., strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., signal_id: _Optional[str] = ..., leg: _Optional[str] = ..., side: _Optional[str] = ..., type: _Optional[str] = ..., quantity: _Optional[str] = ..., event_ns: _Optional[int] = ..., limit_price: _Optional[str] = ..., stop_price: _Optional[str] = ..., trail: _Optional[str] = ..., time_in_force: _Optional[str] = ..., expires_ns: _Optional[int] = ..., reduce_only: bool = ..., bracket: _Optional[str] = ...) -> None: ...

class OrderChange(_message.Message):
    __slots__ = ("client_order_id", "quantity", "limit_price", "stop_price")
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PRICE_FIELD_NUMBER: _ClassVar[int]
    STOP_PRICE_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    quantity: str
    limit_price: str
    stop_price: str
    def __init__(self, client_order_id: _Optional[str] = ..., quantity: _Optional[str] = ..., limit_price: _Optional[str] = ..., stop_price: _Optional[str] = ...) -> None: ...

class OrderReport(_message.Message):
    __slots__ = ("client_order_id", "client", "state", "quantity", "filled", "average_price", "reason", "oms_order_id")
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    FILLED_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OMS_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    client: str
    state: str
    quantity: str
    filled: str
    average_price: str
    reason: str
    oms_order_id: str
    def __init__(self, client_order_id: _Optional[str] = ..., client: _Optional[str] = ..., state: _Optional[str] = ..., quantity: _Optional[str] = ..., filled: _Optional[str] = ..., average_price: _Optional[str] = ..., reason: _Optional[str] = ..., oms_order_id: _Optional[str] = ...) -> None: ...

class Fill(_message.Message):
    __slots__ = ("fill_id", "client_order_id", "signal_id", "client", "account", "strategy", "symbol", "side", "price", "quantity", "fee", "currency", "liquidity", "event_ns")
    FILL_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_FIELD_NUMBER: _ClassVar[int]
    EVENT_NS_FIELD_NUMBER: _ClassVar[int]
    fill_id: str
    client_order_id: str
    signal_id: str
    client: str
    account: str
    strategy: str
    symbol: str
    side: str
    price: str
    quantity: str
    fee: str
    currency: str
    liquidity: str
    event_ns: int
    def __init__(self, fill_id: _Optional[str] = ..., client_order_id: _Optional[str] = ..., signal_id: _Optional[str] = ..., client: _Optional[str] = ..., account: _Optional[str] = ..., strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., side: _Optional[str] = ..., price: _Optional[str] = ..., quantity: _Optional[str] = ..., fee: _Optional[str] = ..., currency: _Optional[str] = ..., liquidity: _Optional[str] = ..., event_ns: _Optional[int] = ...) -> None: ...

class OmsEvent(_message.Message):
    __slots__ = ("number", "client", "kind", "event_ns", "seq", "report", "fill", "amount", "account", "strategy", "symbol")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_NS_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    number: int
    client: str
    kind: str
    event_ns: int
    seq: int
    report: OrderReport
    fill: Fill
    amount: str
    account: str
    strategy: str
    symbol: str
    def __init__(self, number: _Optional[int] = ..., client: _Optional[str] = ..., kind: _Optional[str] = ..., event_ns: _Optional[int] = ..., seq: _Optional[int] = ..., report: _Optional[_Union[OrderReport, _Mapping]] = ..., fill: _Optional[_Union[Fill, _Mapping]] = ..., amount: _Optional[str] = ..., account: _Optional[str] = ..., strategy: _Optional[str] = ..., symbol: _Optional[str] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("client", "account", "strategy", "symbol", "quantity", "average_price", "cost", "realised", "fees", "funding")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRICE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    REALISED_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    FUNDING_FIELD_NUMBER: _ClassVar[int]
    client: str
    account: str
    strategy: str
    symbol: str
    quantity: str
    average_price: str
    cost: str
    realised: str
    fees: str
    funding: str
    def __init__(self, client: _Optional[str] = ..., account: _Optional[str] = ..., strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., quantity: _Optional[str] = ..., average_price: _Optional[str] = ..., cost: _Optional[str] = ..., realised: _Optional[str] = ..., fees: _Optional[str] = ..., funding: _Optional[str] = ...) -> None: ...
