"""docs/oms_protocol.md is enough to write an OMS by: its examples are bytes that this product sends and understands."""

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from strategy_runner.oms import protocol
from strategy_runner.oms.refusal import RefusalCode

DOCUMENT = (Path(__file__).parents[2] / "docs" / "oms_protocol.md").read_text()
_EXAMPLE = re.compile(
    r"^An? (\w+), (\d+) bytes:\n\n```json\n(.*?)\n```\n\n```hex\n(.*?)\n```$", re.MULTILINE | re.DOTALL
)
FORMS = {"request": protocol.Request, "answer": protocol.Answer, "news": protocol.News}
EXAMPLES = _EXAMPLE.findall(DOCUMENT)


def test_there_is_an_example_of_each_form() -> None:
    assert len(EXAMPLES) == DOCUMENT.count("```hex")
    assert {form for form, *_ in EXAMPLES} == set(FORMS)


@pytest.mark.parametrize(("form", "size", "text", "digits"), EXAMPLES)
def test_the_bytes_of_an_example_are_its_text_and_what_is_sent(form: str, size: str, text: str, digits: str) -> None:
    raw = bytes.fromhex(digits)
    assert len(raw) == int(size)
    assert msgspec.msgpack.decode(raw) == json.loads(text)
    message = protocol.decode(FORMS[form], raw)
    assert protocol.encode(message) == raw
    assert message.version == protocol.VERSION


def test_every_form_and_code_is_in_the_tables() -> None:
    forms = [*get_args(protocol.Ask), *get_args(protocol.Reply), protocol.Happened, protocol.Beat]
    tags = [form.__struct_config__.tag for form in forms]
    assert [name for name in (*tags, *get_args(RefusalCode)) if f"| `{name}` |" not in DOCUMENT] == []


def test_a_key_from_the_future_is_passed_over() -> None:
    request = msgspec.msgpack.decode(protocol.encode(protocol.Request(number=1, client="acme", ask=protocol.Hello())))
    request["later"] = request["ask"]["later"] = {"more": [1]}
    assert protocol.decode(protocol.Request, msgspec.msgpack.encode(request)).ask == protocol.Hello()


def test_the_limits_are_those_of_the_code() -> None:
    for limit in (
        f"`orders` (1 to {protocol.ORDERS_MAX})",
        f"`client_order_ids` (1 to {protocol.IDS_MAX:,})",
        f"`limit` (1 to {protocol.EVENTS_MAX:,})",
        f"at most {protocol.REQUEST_BYTES_MAX >> 20} MiB",
        f"at most {protocol.ANSWER_BYTES_MAX >> 20} MiB",
        f"every {protocol.BEAT_S * 1e3:.0f} ms",
    ):
        assert limit in DOCUMENT
