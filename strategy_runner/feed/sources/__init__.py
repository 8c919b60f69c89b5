"""Where raw records come from; one file per kind of source."""
