"""The feed: brings records in from a source, derives bars, clock and predictions, and is the tape's only writer."""
