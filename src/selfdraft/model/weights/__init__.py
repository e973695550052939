"""Weights in fewer bits: how they are rounded, run, counted and kept."""
