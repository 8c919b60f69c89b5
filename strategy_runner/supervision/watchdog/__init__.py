"""The watchdog: ends what hangs or takes too much, and tells what it sees."""
