"""Kernels of our own for CPUs, and how weights lie for them."""
