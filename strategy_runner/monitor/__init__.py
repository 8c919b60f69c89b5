"""Monitoring: what is healthy and what is not, told with what was expected, what was found and what to do."""
