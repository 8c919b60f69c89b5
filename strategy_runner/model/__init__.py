"""The nouns: what a record, a bar, a signal and a decision are. No input or output happens here."""
