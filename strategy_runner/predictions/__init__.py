"""Predictions of models: the mock model, and the combination of several models into one opinion of a bar."""
