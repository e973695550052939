"""Measuring and checking: what the command line's `check` and `bench` do."""
