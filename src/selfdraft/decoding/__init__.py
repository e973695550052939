"""Checking and keeping: the loop, the token tree, and the target's choice. Read `loop` first."""
