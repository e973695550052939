"""Experiments on the method: what searches find, and what drafts do when the text changes.

They run in a clone (`python -m research --help`), are tested like the rest, and are no part of the
wheel. docs/experiments.md has what they showed.
"""
