"""Who asks an OMS elsewhere, and over which wire: real servers with TLS and passwords, configured as a client file says it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgspec
import pytest
from grpc_venue import GrpcVenue
from nats_server import NatsServer
from oms.venue import VenueBackend
from orders import follow, order

from strategy_runner.config.schema import OmsConfig
from strategy_runner.config.spec import OmsSpec
from strategy_runner.errors import ConfigurationError, SafetyRefusal
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderState
from strategy_runner.oms.elsewhere import open_elsewhere
from strategy_runner.oms.interface import Oms, OmsUnavailable
from strategy_runner.oms.nats_connection import NatsConnection
from strategy_runner.oms.nats_publisher import NatsPublisher
from strategy_runner.oms.refusal import OmsRefused

SECRET = "xyzzy"


class Identity(NamedTuple):
    """Its own authority: whoever trusts the certificate trusts it."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl on this machine to make certificates with")
    folder, made = tmp_path_factory.mktemp("tls"), {}
    for name in ("oms", "acme", "stranger"):
        one = made[name] = Identity(folder / f"{name}.pem", folder / f"{name}.key")
        names = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")
        files = ("-keyout", str(one.key), "-out", str(one.certificate))
        subprocess.run([program, "req", "-x509", *curve, *names, *files], check=True, capture_output=True)
    return made


def spec_of(**oms: Any) -> OmsSpec:
    """As the plan makes it of a client file with this [oms]; through JSON, as a router gets it."""
    said = msgspec.convert({"kind": "grpc", **oms}, OmsConfig)
    assert said.address is not None
    spec = OmsSpec(
        kind=said.kind, endpoint=said.address, accounts={}, fills="", token=said.token, tls=said.tls, nats=said.nats
    )
    raw = msgspec.json.encode(spec)
    assert SECRET.encode() not in raw
    return msgspec.json.decode(raw, type=OmsSpec)


@contextmanager
def opened(spec: OmsSpec, **environ: str) -> Iterator[Oms]:
    oms = open_elsewhere("acme", spec, environ)
    try:
        yield oms
    finally:
        oms.close()


@contextmanager
def tls_venue(folder: Path, identities: dict[str, Identity], *, trusts: str = "") -> Iterator[GrpcVenue]:
    own = identities["oms"]
    credentials = grpc.ssl_server_credentials(
        [(own.key.read_bytes(), own.certificate.read_bytes())],
        root_certificates=identities[trusts].certificate.read_bytes() if trusts else None,
        require_client_auth=bool(trusts),
    )
    venue = GrpcVenue(VenueBackend(folder / "venue.log"), token=SECRET, credentials=credentials)
    venue.start()
    try:
        yield venue
    finally:
        venue.stop()


def test_an_oms_behind_tls_is_asked_with_the_token_and_certificate_of_the_configuration(
    folder: Path, identities: dict[str, Identity]
) -> None:
    root, own = {"file": str(identities["oms"].certificate)}, identities["acme"]
    tls = {"root": root, "certificate": {"file": str(own.certificate)}, "key": {"env": "OMS_KEY"}}
    with tls_venue(folder, identities, trusts="acme") as venue:
        spec = spec_of(address=venue.address, token={"env": "OMS_TOKEN"}, tls=tls)
        with opened(spec, OMS_TOKEN=SECRET, OMS_KEY=own.key.read_text()) as oms:
            assert oms.submit([order()])[0].state is OrderState.ACKNOWLEDGED
            assert len(follow(oms, 0, 1)) == 1, "the stream of news has credentials too"
        with (
            opened(spec, OMS_TOKEN="another", OMS_KEY=own.key.read_text()) as oms,
            pytest.raises(OmsRefused, match="token"),
        ):
            oms.open_orders()


@pytest.mark.parametrize(
    "tls",
    [{}, {"root": "stranger"}, {"root": "oms"}],
    ids=["plain text", "another authority", "no certificate of ours"],
)
def test_who_does_not_know_the_other_asks_nothing(
    folder: Path, identities: dict[str, Identity], tls: dict[str, str]
) -> None:
    root = {name: {"file": str(identities[who].certificate)} for name, who in tls.items()}
    with tls_venue(folder, identities, trusts="acme") as venue:
        spec = spec_of(address=venue.address, tls=root)
        with opened(spec) as oms, pytest.raises(OmsUnavailable):
            oms.submit([order()])
        assert venue.calls == 0


def test_a_secret_that_is_no_pem_is_refused_and_not_shown(folder: Path) -> None:
    spec = spec_of(address="127.0.0.1:1", tls={"root": {"env": "OMS_ROOT"}})
    with pytest.raises(ConfigurationError, match=r"oms.tls.root: expected PEM .*not shown") as refused:
        open_elsewhere("acme", spec, {"OMS_ROOT": SECRET})
    assert SECRET not in str(refused.value)
    missing = spec_of(address="127.0.0.1:1", token={"credential": "oms-token"})
    with pytest.raises(ConfigurationError, match="CREDENTIALS_DIRECTORY"):
        open_elsewhere("acme", missing, {})


# -- NATS --------------------------------------------------------------------------------------------------------------

INSTRUMENT = Instrument(
    symbol="BTC-USD", asset_class="crypto", currency="USD", tick_size=Decimal("0.01"), lot_size=Decimal("0.01")
)


@contextmanager
def nats(folder: Path, *words: str) -> Iterator[NatsServer]:
    server = NatsServer(folder, *words)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("words", "said", "own"),
    [
        (
            ("--user", "acme", "--pass", SECRET),
            {"user": "acme", "password": {"env": "NATS"}},
            {"user": "acme", "password": SECRET},
        ),
        (("--auth", SECRET), {"token": {"env": "NATS"}}, {"token": SECRET}),
    ],
    ids=["password", "token"],
)
def test_events_come_from_a_nats_server_that_asks_who_it_is(
    folder: Path, words: tuple[str, ...], said: dict[str, Any], own: dict[str, str]
) -> None:
    backend = VenueBackend(folder / "venue.log", fills=True)
    venue = GrpcVenue(backend)
    venue.start()
    with nats(folder, *words) as server:
        connection = NatsConnection(server.url, **own)
        spec = spec_of(address=venue.address, nats={"server": server.url, **said})
        with opened(spec, NATS=SECRET) as oms:
            sent = order()
            oms.submit([sent])
            NatsPublisher(connection, "acme", {"BTC-USD": INSTRUMENT}).publish(backend.events("acme", 0, 100))
            assert follow(oms, 0, 2) == backend.events("acme", 0, 2)
            assert [held.symbol for held in oms.positions()] == ["BTC-USD"]
        with opened(spec, NATS="another") as oms, pytest.raises(OmsUnavailable) as refused:
            oms.positions()
        assert "another" not in str(refused.value)
        connection.close()
    venue.stop()


def test_nats_over_tls_trusts_the_configured_authority_alone(folder: Path, identities: dict[str, Identity]) -> None:
    own, ours = identities["oms"], identities["acme"]
    words = (
        "--tlsverify",
        "--tlscert",
        str(own.certificate),
        "--tlskey",
        str(own.key),
        "--tlscacert",
        str(ours.certificate),
    )
    with nats(folder, *words) as server:
        mine = {"certificate": {"file": str(ours.certificate)}, "key": {"file": str(ours.key)}}
        for root, is_known in (("oms", True), ("stranger", False)):
            tls = {"root": {"file": str(identities[root].certificate)}, **mine}
            spec = spec_of(address="127.0.0.1:1", nats={"server": server.url.replace("nats:", "tls:"), "tls": tls})
            with opened(spec) as oms:
                if is_known:
                    assert oms.positions() == []
                else:
                    with pytest.raises(OmsUnavailable):
                        oms.positions()


def test_nothing_goes_to_another_host_in_plain_text() -> None:
    with pytest.raises(SafetyRefusal, match="expected TLS for a NATS server on another host"):
        NatsConnection("nats://127.0.0.1.example.com:4222")
