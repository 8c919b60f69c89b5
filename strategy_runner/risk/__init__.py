"""Risk: pure functions that say what an order may do, what a client's state is, and when a breaker opens."""
