"""The target: loading it, seeing its layers, its cache and its attention, and making drafts of it.

The only package that imports transformers' modelling code.
"""
