"""Silence for the libraries underneath: what they would like to warn of is not the answer.

What selfdraft itself warns of is one line on stderr.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from selfdraft.cli.terminal import say
from selfdraft.errors import SelfdraftWarning


@contextmanager
def quiet_libraries(*, is_verbose: bool, hides_own: bool = False) -> Iterator[None]:
    """Hide warnings and the log of transformers while the block runs; `hides_own`: ours, too.

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
            if not hides_own:
                warnings.simplefilter("always", SelfdraftWarning)
            warnings.showwarning = _show_in_a_line
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _show_in_a_line(message: Warning | str, *_: object, **__: object) -> None:
    say(f"warning: {message}")
