"""The model's Structs as messages of oms.proto and back: fields of the same names, so one rule serves them all."""

from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

_Message = TypeVar("_Message", bound=Message)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def message_of(value: msgspec.Struct, kind: type[_Message]) -> _Message:
    return kind(**_present(msgspec.to_builtins(value)))


def struct_of(message: Message, kind: type[_Struct]) -> _Struct:
    """Checks every field. Raises msgspec.ValidationError, which names the field."""
    return msgspec.convert(_fields(message, kind), kind)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Without those that are None, which a message says by leaving them out."""
    return {
        name: _present(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


def _fields(message: Message, kind: type[msgspec.Struct] | None) -> dict[str, Any]:
    """A text that is empty and should be a number was left out by the sender, as proto3 cannot say otherwise."""
    numbers = {field.name for field in msgspec.structs.fields(kind) if field.type is Decimal} if kind else set()
    fields: dict[str, Any] = {}
    for descriptor in message.DESCRIPTOR.fields:
        name = descriptor.name
        if descriptor.has_presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        if isinstance(value, Message):
            fields[name] = _fields(value, None)
        elif value != "" or name not in numbers:
            fields[name] = value
    return fields
