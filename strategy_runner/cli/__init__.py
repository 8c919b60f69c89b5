"""The command line: one file for each group of verbs. stdout is data, stderr is talk."""
