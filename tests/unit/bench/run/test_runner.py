"""The order of measuring, and what is left when it stops early."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from bench_doubles import FakeMethod, Watcher, pairs

from selfdraft.bench.run import runner
from selfdraft.bench.run.result_folder import ResultFolder
from selfdraft.bench.run.runner import Ending, Work, interleave, measure

CPU = torch.device("cpu")


def run(
    path: Path,
    work: list[Work],
    methods: list[FakeMethod],
    watcher: Watcher,
    time_limit: float | None = None,
) -> Ending:
    folder = ResultFolder(path, {"arguments": {}, "provenance": {}})
    folder.begin()
    return measure(work, methods, folder, watcher, device=CPU, time_limit=time_limit)


def test_every_method_comes_first_equally_often(tmp_path: Path) -> None:
    """Guards against a method that always has the cold cache, or always the warm one."""
    methods = [FakeMethod(name) for name in "abc"]
    watcher = Watcher()
    assert run(tmp_path, interleave(pairs(6), 1), methods, watcher) == "complete"
    assert len(watcher.order) == 18
    firsts = Counter(name for _, name in watcher.order[::3])
    assert firsts == {"a": 2, "b": 2, "c": 2}
    for prompt in range(6):
        assert {name for index, name in watcher.order if index == prompt} == {"a", "b", "c"}


def test_tasks_and_repeats_are_interleaved() -> None:
    """Guards against a run that has finished one task and not begun the other when it is cut."""
    work = interleave([*pairs(2, "x"), *pairs(1, "y")], 2)
    keys = [item.key for item in work]
    assert keys[:3] == [("x", 0, 0), ("y", 0, 0), ("x", 1, 0)]
    assert keys[3:] == [(task, index, 1) for task, index, _ in keys[:3]]


def test_a_warm_up_is_not_measured(tmp_path: Path) -> None:
    """Guards against the first prompt paying for what is done once."""
    method = FakeMethod("a")
    run(tmp_path, interleave(pairs(2), 1), [method], Watcher())
    assert len(method.calls) == 3
    assert len(ResultFolder(tmp_path, {"arguments": {}, "provenance": {}}).measurements) == 2


def test_ctrl_c_keeps_what_was_measured_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Guards against work that is lost, or done twice."""
    methods = [FakeMethod("a"), FakeMethod("b")]
    work = interleave(pairs(3), 1)
    assert run(tmp_path, work, methods, Watcher(stop_after=3)) == "interrupted"
    second = Watcher()
    assert run(tmp_path, work, methods, second) == "complete"
    assert len(second.order) == 3
    third = Watcher()
    num_calls = len(methods[0].calls)
    assert run(tmp_path, work, methods, third) == "complete"
    assert third.order == []
    assert len(methods[0].calls) == num_calls, "no warm-up for nothing"


def test_the_time_limit_ends_between_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a method that has more prompts than another when time is up."""
    seconds = iter(range(100))
    monkeypatch.setattr(runner.time, "monotonic", lambda: float(next(seconds)))
    watcher = Watcher()
    methods = [FakeMethod("a"), FakeMethod("b")]
    assert run(tmp_path, interleave(pairs(9), 1), methods, watcher, time_limit=3) == "time limit"
    assert 0 < len(watcher.order) < 18
    assert len(watcher.order) % 2 == 0
