"""The router: one per client. It reads signals, decides on each, makes the decision durable, and lets the sinks follow."""
