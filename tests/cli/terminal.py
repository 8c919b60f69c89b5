"""A terminal of a given width, for what a command shows a person and not a pipe."""

import fcntl
import os
import pty
import re
import struct
import tempfile
import termios
from concurrent.futures import ThreadPoolExecutor

from end_to_end.commands import run_forked_to
from end_to_end.harness import Firm, clean_environment

ROWS = 50


def shown(firm: Firm, columns: int, *arguments: object) -> list[str]:
    """The lines a command shows on a terminal `columns` wide, without colours and without trailing space."""
    text = raw(firm, columns, *arguments)
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("\r\n")]


def raw(firm: Firm, columns: int, *arguments: object, term: str = "xterm-256color") -> str:
    """All that it writes there."""
    return both(firm, columns, *arguments, term=term)[0]


def both(firm: Firm, columns: int, *arguments: object, term: str = "xterm-256color") -> tuple[str, str]:
    """What it writes there, and what to stderr, which is no terminal."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environ = {**clean_environment(None), "TERM": term}
    command = [*firm.command, *map(str, arguments)]
    with ThreadPoolExecutor(1) as reader, tempfile.NamedTemporaryFile() as err:
        shows = reader.submit(_everything, screen)
        code = run_forked_to(command, environ, os.ttyname(terminal), err.name)
        os.close(terminal)
        text = shows.result()
        talk = err.read().decode()
        assert code == 0, talk
    return text, talk


def _everything(screen: int) -> str:
    parts = []
    try:
        while part := os.read(screen, 65_536):
            parts.append(part)
    except OSError:
        pass  # Linux says EIO when the other side of a terminal has closed
    os.close(screen)
    return b"".join(parts).decode()
