"""Cores that other programs use too: less waiting for them, and a word when it is much.

Threads that share a pass wait for each other, awake. By itself libgomp lets them sleep after some
20 ms, and what sleeps is woken late on a core that is never idle: one busy neighbour then makes
two threads 40 times slower. Threads that stay awake keep their turn (docs/experiments.md, "One
busy neighbour").
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selfdraft.cli.terminal import say

if TYPE_CHECKING:
    from selfdraft.engine import Engine

_SPINS = "GOMP_SPINCOUNT"
_HALF_A_SECOND = "10000000"
_DECIDED_BY_USER = ("OMP_WAIT_POLICY", _SPINS)

_SHORT = 1.0  # seconds
_LEAST_SHARE = 0.8


def keep_threads_awake() -> None:
    """Let threads that wait spin for half a second, unless the user has said how they wait.

    libgomp reads this once, so it must come before the import of torch.
    """
    if not any(name in os.environ for name in _DECIDED_BY_USER):
        os.environ[_SPINS] = _HALF_A_SECOND


@contextmanager
def told_of_neighbours(engine: "Engine", *, hidden: bool = False) -> Iterator[None]:
    """Say so on stderr if other programs had much of the cores' time while `engine` computed.

    Threads that wait awake have all of their cores' time; what is missing, others had.
    """
    wall, busy = time.perf_counter(), time.process_time()
    yield
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    is_told = os.environ.get(_SPINS) == _HALF_A_SECOND and engine.target.device.type == "cpu"
    if hidden or not is_told or wall < _SHORT:
        return
    import torch

    num_threads = torch.get_num_threads()
    share = busy / wall / num_threads
    if num_threads > 1 and share < _LEAST_SHARE:
        say(
            f"(other programs had {1 - share:.0%} of the time of the {num_threads} cores, and "
            f"threads wait for each other: --threads {max(1, int(share * num_threads))} may be "
            "faster meanwhile)"
        )
