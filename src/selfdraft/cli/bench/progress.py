"""What a running benchmark shows: what it is doing, and who is ahead so far."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selfdraft.cli.terminal import stderr_console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from selfdraft.bench.run.measurement import Measurement
    from selfdraft.bench.run.runner import Work


class BenchProgress:
    """Counts tokens and seconds per method, and draws them between measurements if it may."""

    def __init__(self, methods: list[str], bar: "tuple[Progress, TaskID] | None") -> None:
        self._totals = {name: [0, 0.0] for name in methods}
        self._bar = bar

    def started(self, work: "Work", method: str) -> None:
        """Say what runs."""
        if self._bar is not None:
            progress, task = self._bar
            what = f"{work.prompt.task} {work.prompt.index} ({work.prompt.category}): {method}"
            progress.update(task, description=f"{what}  {self.standing()}", refresh=True)

    def measured(self, measurement: "Measurement") -> None:
        """Count a measurement, of this run or of an earlier one."""
        totals = self._totals[measurement.method]
        totals[0] += len(measurement.token_ids)
        totals[1] += measurement.total_seconds
        if self._bar is not None:
            self._bar[0].advance(self._bar[1])

    def standing(self) -> str:
        """Speed of each method over the first, so far: `off 1.00x, swift 0.90x`."""
        rates = {n: tokens / s for n, (tokens, s) in self._totals.items() if s}
        if len(rates) < len(self._totals) or not all(rates.values()):
            return ""
        first = next(iter(rates.values()))
        return ", ".join(f"{name} {rate / first:.2f}x" for name, rate in rates.items())


@contextmanager
def bench_progress(methods: list[str], total: int) -> Iterator[BenchProgress]:
    """A bar on stderr if that is a terminal. It has no thread, so it costs no measured time."""
    if not sys.stderr.isatty():
        yield BenchProgress(methods, None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(
        *columns,
        console=stderr_console(),
        transient=True,
        redirect_stdout=False,
        auto_refresh=False,
    ) as progress:
        yield BenchProgress(methods, (progress, progress.add_task("warming up", total=total)))
