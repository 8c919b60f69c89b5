"""ZeroMQ: doorbells that say "look at the tape", and frames that carry the records to those without the files."""
