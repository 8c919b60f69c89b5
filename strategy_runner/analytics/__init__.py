"""Performance: what came of trading, computed from fills alone."""
