"""The commands behind the Makefile. Nothing here is needed to run a chapter."""
