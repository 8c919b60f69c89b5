"""The signal pipeline: what a strategy asked for, completed and judged, one step after the other."""
