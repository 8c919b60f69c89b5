"""Who asks an OMS elsewhere, and over which wire: real servers with TLS and passwords, configured as a client file says it."""

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgspec
import pytest
from grpc_venue import GrpcVenue
from nats_server import NatsServer
from oms.venue import VenueBackend
from orders import eventually, follow, order

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


def test_a_secret_that_is_no_pem_or_token_is_refused_and_not_shown(folder: Path) -> None:
    spec = spec_of(address="127.0.0.1:1", tls={"root": {"env": "OMS_ROOT"}})
    with pytest.raises(ConfigurationError, match=r"oms.tls.root: expected PEM .*not shown") as refused:
        open_elsewhere("acme", spec, {"OMS_ROOT": SECRET})
    assert SECRET not in str(refused.value)
    for token in (f"{SECRET}\n{SECRET}", f"{SECRET}é", f"{SECRET}\x7f"):
        with pytest.raises(ConfigurationError, match=r"oms.token: expected one line of ASCII .*not shown") as refused:
            open_elsewhere("acme", spec_of(address="127.0.0.1:1", token={"env": "OMS_TOKEN"}), {"OMS_TOKEN": token})
        assert SECRET not in str(refused.value)
    missing = spec_of(address="127.0.0.1:1", token={"credential": "oms-token"})
    with pytest.raises(ConfigurationError, match="CREDENTIALS_DIRECTORY"):
        open_elsewhere("acme", missing, {})


def test_certificates_that_cannot_be_used_are_named_before_anybody_is_asked(
    tmp_path: Path, identities: dict[str, Identity]
) -> None:
    """gRPC said that it failed to create a handshaker, and orders stood as unknown; a passphrase was asked for at the terminal,
    and where there was none the router ended."""
    acme, oms, locked = identities["acme"], identities["oms"], tmp_path / "locked.key"
    lock = ("openssl", "pkey", "-in", str(acme.key), "-aes256", "-passout", f"pass:{SECRET}", "-out", str(locked))
    subprocess.run(lock, check=True, capture_output=True)
    certificate = {"file": str(acme.certificate)}
    for tls in (
        {"certificate": certificate, "key": {"file": str(oms.key)}},
        {"certificate": certificate, "key": {"file": str(locked)}},
        {"root": {"file": str(oms.key)}},
    ):
        grpc_oms = spec_of(address="127.0.0.1:1", tls=tls)
        nats_oms = spec_of(address="127.0.0.1:1", nats={"server": "tls://127.0.0.1:1", "tls": tls})
        for spec, path in ((grpc_oms, "oms.tls"), (nats_oms, "oms.nats.tls")):
            with pytest.raises(
                ConfigurationError, match=f"^{path}: expected certificates, and a key without passphrase"
            ):
                open_elsewhere("acme", spec, {})


def test_an_authority_may_be_described_in_any_language(folder: Path, identities: dict[str, Identity]) -> None:
    root, own = folder / "root.pem", identities["oms"].certificate
    root.write_text(f"# Autorité de certification\n{own.read_text()}")
    with tls_venue(folder, identities) as venue:
        tls = {"root": {"file": str(root)}}
        nats_too = {"server": "tls://127.0.0.1:1", "tls": tls}
        with opened(spec_of(address=venue.address, token={"env": "OMS"}, tls=tls, nats=nats_too), OMS=SECRET) as oms:
            assert oms.open_orders() == []


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
        with opened(spec, NATS="another") as oms:
            said_so = eventually(partial(_complaint, oms, "Authorization Violation"), "the server's reason")
        assert "another" not in said_so
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


def test_a_server_that_offers_no_tls_is_not_told_who_asks(folder: Path) -> None:
    with plain_server() as (port, heard):
        login = {"user": "acme", "password": {"env": "NATS"}}
        spec = spec_of(address="127.0.0.1:1", nats={"server": f"tls://127.0.0.1:{port}", **login})
        with opened(spec, NATS=SECRET) as oms:
            eventually(partial(_complaint, oms, "expected TLS, found plain text"), "the reason")
        assert not any(heard)


def test_a_server_on_another_host_that_a_local_one_names_is_not_told_who_asks_in_plain_text(folder: Path) -> None:
    with plain_server("127.0.0.2") as (other, heard), plain_server(names=f"127.0.0.2:{other}") as (port, _):
        connection = NatsConnection(f"nats://127.0.0.1:{port}", token=SECRET)
        with suppress(OmsUnavailable):
            connection.run(connection.stream)  # the first server hangs up, and the other is tried
        eventually(lambda: heard, "the other server to be tried")
        eventually(lambda: len(heard) > 1, "it to be tried again")
        connection.close()
        assert not any(heard)


def test_credentials_of_a_file_open_a_server_that_knows_its_account(folder: Path) -> None:
    made = pytest.importorskip("nats_credentials", reason="the extra [nats] is not installed")
    config, text = made.operator_mode()
    (folder / "operator.conf").write_text(config)
    with nats(folder, "-c", str(folder / "operator.conf")) as server:
        spec = spec_of(address="127.0.0.1:1", nats={"server": server.url, "credentials": {"env": "NATS"}})
        with opened(spec, NATS=text) as oms:
            assert oms.positions() == []
        seed_alone = text[text.index("-----BEGIN USER NKEY SEED") :]
        for other in (SECRET, seed_alone, text.replace("NKEY SEED-----\nS", "NKEY SEED-----\nX")):
            with pytest.raises(ConfigurationError, match="expected the text of a NATS credentials file") as refused:
                open_elsewhere("acme", spec, {"NATS": other})
            assert other not in str(refused.value)


def test_credentials_without_the_package_that_signs_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    with pytest.raises(ConfigurationError, match=r"found no nkeys; install strategy-runner\[nats\]"):
        NatsConnection("nats://127.0.0.1:4222", credentials=SECRET)


def _complaint(oms: Oms, expected: str) -> str:
    """What it says when it is asked and cannot answer, once that is what is expected."""
    with pytest.raises(OmsUnavailable) as refused:
        oms.positions()
    return str(refused.value) if expected in str(refused.value) else ""


@contextmanager
def plain_server(host: str = "127.0.0.1", *, names: str = "") -> Iterator[tuple[int, list[bytes]]]:
    """Its port, and what it has heard on each connection. It says what a NATS server says first, naming another server, and
    hangs up after it was spoken to."""
    heard: list[bytes] = []
    said: dict[str, Any] = {"server_id": "X", "version": "2.9.10", "max_payload": 1_048_576, "auth_required": True}
    if names:
        said["connect_urls"] = [names]

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection:
                    connection.sendall(b"INFO " + msgspec.json.encode(said) + b"\r\n")
                    connection.settimeout(0.5)
                    try:
                        heard.append(connection.recv(4096))
                    except OSError:
                        heard.append(b"")

    with socket.create_server((host, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_nothing_goes_to_another_host_in_plain_text() -> None:
    with pytest.raises(SafetyRefusal, match="expected TLS for a NATS server on another host"):
        NatsConnection("nats://127.0.0.1.example.com:4222")
