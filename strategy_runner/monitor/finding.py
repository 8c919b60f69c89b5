"""A finding: one line of a health check."""

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`check` is a stable name, `subject` the file, folder, process or limit that was looked at; `advice` says what to do."""

    check: str
    level: Level
    subject: str
    expected: str
    found: str
    advice: str = ""


def ok(check: str, subject: object, found: str) -> Finding:
    return Finding(check=check, level="ok", subject=str(subject), expected="", found=found)


def warning(check: str, subject: object, expected: str, found: str, advice: str) -> Finding:
    return Finding(check=check, level="warning", subject=str(subject), expected=expected, found=found, advice=advice)


def error(check: str, subject: object, expected: str, found: str, advice: str) -> Finding:
    return Finding(check=check, level="error", subject=str(subject), expected=expected, found=found, advice=advice)
