"""Recorded history: what a folder holds, reading it in chunks through the quality gate, importing foreign files into it."""
