"""Measuring: every prompt by every method in turn, into a folder that can be gone on with."""
