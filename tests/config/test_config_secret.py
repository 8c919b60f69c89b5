"""Secret references: read where they are needed, shown nowhere."""

import os
from pathlib import Path

import msgspec
import pytest

from strategy_runner.config.secret import SECRET_BYTES_MAX, SecretReference
from strategy_runner.errors import ConfigurationError


def refusal(reference: SecretReference, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        reference.resolve(environ)
    return str(raised.value)


def test_a_secret_is_read_from_a_variable_a_file_or_a_systemd_credential(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret with spaces \n")

    assert SecretReference(env="KEY").resolve({"KEY": "s3cret"}) == "s3cret"
    assert SecretReference(file=str(tmp_path / "key")).resolve({}) == "s3cret with spaces "
    assert SecretReference(credential="key").resolve({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "s3cret with spaces "


def test_a_reference_shows_the_place_and_never_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hunter2")
    reference = SecretReference(file=str(path))
    reference.resolve({})

    for text in (str(reference), repr(reference), f"{reference}", msgspec.json.encode(reference).decode()):
        assert str(path) in text
        assert "hunter2" not in text


@pytest.mark.parametrize(
    ("environ", "found"),
    [({}, "it is not set"), ({"KEY": ""}, "it is empty")],
)
def test_a_variable_without_a_value_is_named(environ: dict[str, str], found: str) -> None:
    expected = f'secret {{ env = "KEY" }}: expected the environment variable KEY, found: {found}'
    assert refusal(SecretReference(env="KEY"), environ) == expected


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    expected = f'secret {{ file = "{gone}" }}: expected a readable file at {gone}, found: no such file or directory'
    assert refusal(SecretReference(file=str(gone)), {}) == expected
    assert refusal(SecretReference(file=str(tmp_path)), {}).endswith("found: is a directory")


def test_a_file_with_no_usable_secret_is_refused_without_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    reference = SecretReference(file=str(path))

    path.write_bytes(b"\n")
    assert refusal(reference, {}).endswith("found: an empty file")
    path.write_bytes(b"hunter2\xff")
    assert refusal(reference, {}).endswith("found: other bytes")
    path.write_bytes(b"x" * (SECRET_BYTES_MAX + 1))
    assert refusal(reference, {}).endswith("found: a longer one")


def test_the_cause_of_a_refusal_does_not_carry_the_secret_either(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"hunter2\xff")

    with pytest.raises(ConfigurationError) as raised:
        SecretReference(file=str(path)).resolve({})

    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_a_credential_outside_of_systemd_says_what_is_missing() -> None:
    assert refusal(SecretReference(credential="key"), {}) == (
        'secret { credential = "key" }: '
        "expected CREDENTIALS_DIRECTORY to be set by systemd (LoadCredential=), found: it is not set"
    )


def test_a_pipe_in_the_place_of_a_secret_is_told_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "token"
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match=f"expected a readable file at {path}, found: a pipe"):
        SecretReference(file=str(path)).resolve({})
