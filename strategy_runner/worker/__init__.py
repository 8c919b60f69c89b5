"""The worker: a deterministic machine that reads records and writes signals."""
