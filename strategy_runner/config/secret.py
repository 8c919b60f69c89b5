"""A secret reference: where a secret lies, never what it is.

It holds no value, so nothing that prints, logs or dumps a configuration can show one.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from strategy_runner.errors import ConfigurationError, reason_of

WAYS = ("file", "env", "credential")
EXAMPLE = '{ env = "NAME" }, { file = "PATH" } or { credential = "NAME" }'
SECRET_BYTES_MAX = 65_536

_NAMES = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}"),
    "credential": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}"),
    "file": re.compile(r"[^\x00]{1,4096}"),
}
_NOUNS = {"env": "the name of a variable", "credential": "the name of a systemd credential", "file": "a path"}


class SecretReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of a file, an environment variable and a systemd credential ($CREDENTIALS_DIRECTORY/NAME)."""

    file: str | None = None
    env: str | None = None
    credential: str | None = None

    def resolve(self, environ: Mapping[str, str]) -> str:
        """The secret, without the line end of its file. Reads a file. Raises ConfigurationError that names the place."""
        if self.env is not None:
            return self._from_variable(environ, self.env)
        if self.credential is not None:
            folder = environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise self._error("CREDENTIALS_DIRECTORY to be set by systemd (LoadCredential=)", "it is not set")
            return self._from_file(Path(folder, self.credential))
        assert self.file is not None, "a decoded reference has exactly one way"
        return self._from_file(Path(self.file))

    def as_table(self) -> dict[str, str]:
        """The reference as it is written in a file."""
        return {way: place for way in WAYS if (place := getattr(self, way)) is not None}

    def __str__(self) -> str:
        # JSON quotes a string the way TOML does
        return "{ " + ", ".join(f"{way} = {quoted(place)}" for way, place in self.as_table().items()) + " }"

    def __repr__(self) -> str:
        return f"SecretReference({self})"

    def _from_variable(self, environ: Mapping[str, str], name: str) -> str:
        value = environ.get(name)
        if value is None:
            raise self._error(f"the environment variable {name}", "it is not set")
        if not value:
            raise self._error(f"the environment variable {name}", "it is empty")
        return value

    def _from_file(self, path: Path) -> str:
        try:
            if path.is_fifo():  # whoever reads it would wait there for somebody to write into it
                raise self._error(f"a readable file at {path}", "a pipe")
            with path.open("rb") as file:
                raw = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            raise self._error(f"a readable file at {path}", reason_of(error)) from error
        if len(raw) > SECRET_BYTES_MAX:
            raise self._error(f"a file of at most {SECRET_BYTES_MAX} bytes at {path}", "a longer one")
        try:
            value = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            # from None: the original error carries the bytes of the secret
            raise self._error(f"UTF-8 text at {path}", "other bytes") from None
        if not value:
            raise self._error(f"a secret at {path}", "an empty file")
        return value

    def _error(self, expected: str, found: str) -> ConfigurationError:
        return ConfigurationError(f"secret {self}: expected {expected}, found: {found}")


def reference_fault(value: object) -> str | None:
    """Why this value of a file is no secret reference, or None. What it holds is never repeated: it may be a secret."""
    if not isinstance(value, dict):
        kind = "a literal string" if isinstance(value, str) else "another value"
        return f"expected a reference, {EXAMPLE}, found {kind} (not shown); a secret never stands in a configuration"
    if len(value) != 1 or next(iter(value)) not in WAYS:
        keys = ", ".join(sorted(value)) or "an empty table"
        return f"expected a reference with exactly one of file, env and credential, found {keys}"
    way, place = next(iter(value.items()))
    if not isinstance(place, str) or not _NAMES[way].fullmatch(place):
        return f"expected {_NOUNS[way]} after {way} =, found something else (not shown)"
    return None


def quoted(text: str) -> str:
    return msgspec.json.encode(legible(text)).decode()


def legible(text: str) -> str:
    """The same, or with bytes of a name that are no UTF-8 written out: they cannot be printed."""
    return text.encode(errors="backslashreplace").decode()
