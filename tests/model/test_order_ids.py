"""Client order ids: what they are made of never changes, or a restart would send every open order a second time."""

import base64
import hashlib

import pytest

from strategy_runner.model.order import CLIENT_ORDER_ID_CHARS, client_order_id


@pytest.mark.parametrize("signal", ["acme:swing.BTC-USD@e43af576/0", "", "acme:swing.BTC-USD@e43af576/123456789"])
@pytest.mark.parametrize("leg", ["entry", "stop_loss", "exit"])
def test_an_id_is_the_base32_of_16_bytes_of_blake2b(signal: str, leg: str) -> None:
    raw = hashlib.blake2b(f"{signal}/{leg}".encode(), digest_size=16).digest()
    assert client_order_id(signal, leg) == base64.b32encode(raw).decode()[:CLIENT_ORDER_ID_CHARS]
