"""Everything that knows supervisord: the daemon with the warm fork, what it runs, and how to talk to it."""
