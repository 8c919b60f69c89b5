"""Where decisions go. Each sink is a cursor over a client's decision log, kept with the sink's own data."""
