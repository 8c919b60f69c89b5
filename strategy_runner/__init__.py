"""Strategy Runner: every client x strategy x symbol as one isolated process, fed from one tape."""

__version__ = "0.1.0"
