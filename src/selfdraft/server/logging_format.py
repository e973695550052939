"""The log: one JSON object a line, on stderr."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_LOGGERS = {"selfdraft": logging.INFO, "uvicorn": logging.WARNING}

# What every record has; the rest was given as `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, in ASCII: nothing in a request can break it in two."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


@contextmanager
def logging_to_stderr(*, is_verbose: bool = False) -> Iterator[None]:
    """Send the log of the server to stderr while the block runs.

    For a program that is the server: a library leaves logging to whoever uses it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    loggers = {name: logging.getLogger(name) for name in _LOGGERS}
    before = {name: (lo.level, lo.propagate) for name, lo in loggers.items()}
    for name, logger in loggers.items():
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.DEBUG if is_verbose else _LOGGERS[name])
    try:
        yield
    finally:
        for name, logger in loggers.items():
            logger.removeHandler(handler)
            logger.setLevel(before[name][0])
            logger.propagate = before[name][1]
