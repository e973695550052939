"""Silence for the libraries underneath: what they would like to warn of is not the answer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries(*, is_verbose: bool) -> Iterator[None]:
    """Hide warnings and the log of transformers while the block runs.

    Imports transformers, which takes seconds. Does nothing if `is_verbose`.
    """
    if is_verbose:
        yield
        return
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
