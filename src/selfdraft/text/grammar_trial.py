"""Tries a grammar out in a process of its own, before this one compiles it.

llguidance limits what it reads in many ways, but a short text of many intersections still takes it
gigabytes and hours, and it recurses. Whoever may send grammars could end a server by that; here it
ends a child process.
"""

import subprocess
import sys
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLParserLimits

_CPU_SECONDS = 3
_MEMORY_BYTES = 2 * 2**30
# For a system without limits of processes, and a machine that is busy.
_WALL_SECONDS = 30
_MAX_REASON_CHARS = 400

# A few clients cannot keep the machine busy with trials.
_TRIALS = BoundedSemaphore(2)


def parser_limits() -> "LLParserLimits":
    """What one grammar may take: of the library's own limits those that are too wide for a server.

    The largest schemas that were tried, with 2,000 values or with every format, take a tenth.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=100_000,
        max_lexer_states=50_000,  # about 2 kB each
        verbose_errors=False,  # no state of the parser, which holds what was written
    )


def problem_of(grammar: str) -> str | None:
    """Why `grammar`, as llguidance's matcher takes it, cannot be enforced; None if it can.

    Raises:
        ConfigError: the machine is too busy to tell.
    """
    try:
        with _TRIALS:
            trial = subprocess.run(
                # -P: the modules beside this file are not to be taken for top-level ones.
                [sys.executable, "-P", str(Path(__file__))],
                input=grammar.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_WALL_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        from selfdraft.errors import ConfigError  # the child finds this file alone

        raise ConfigError(
            f"a grammar could not be tried out within {_WALL_SECONDS} seconds: make it simpler, or "
            "try again when this machine is less busy"
        ) from error
    if trial.returncode != 0:
        return "it takes too much time or memory to compile: make it simpler"
    return first_words(trial.stdout.decode()) or None


def first_words(reason: str) -> str:
    """The beginning of an error of llguidance, which may show the whole grammar."""
    text = reason.replace("<non-verbose/>", "").strip()
    return text if len(text) <= _MAX_REASON_CHARS else f"{text[:_MAX_REASON_CHARS]} ..."


def _limit_this_process() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _problem(grammar: str) -> str:
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=parser_limits())
    # A warning is about a part that would be ignored.
    if warnings := matcher.get_grammar_warnings():
        return "; ".join(warnings)
    if not matcher.is_error():
        matcher.compute_bitmask()
    problem = matcher.get_error()
    return "no text fulfils it" if problem.startswith("NoExtension") else problem


if __name__ == "__main__":
    _limit_this_process()
    sys.stdout.buffer.write(_problem(sys.stdin.buffer.read().decode()).encode())
