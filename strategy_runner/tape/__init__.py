"""The tape: one sequenced, memory-mapped record of everything that happened, and the framed logs beside it."""
