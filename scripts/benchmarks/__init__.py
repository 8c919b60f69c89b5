"""The benchmark: one file for each thing that is measured, and what they share."""
