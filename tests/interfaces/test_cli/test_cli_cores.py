"""Threads that wait awake beside a busy neighbour, and what is said about the neighbour."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from selfdraft.cli import cores
from selfdraft.cli.cores import keep_threads_awake, told_of_neighbours

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back, whatever the code does
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_decided_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a setting that overrules the one of whoever knows the machine."""
    monkeypatch.setenv(name, "7")
    keep_threads_awake()
    assert [os.environ.get(other) for other in NAMES if other != name] == [None]
    assert os.environ[name] == "7"


def test_the_command_decides_before_torch_is_there() -> None:
    """Guards against an import that makes it too late: libgomp reads it once."""
    program = """if True:
        import os, sys
        from selfdraft.cli import app
        app.app = lambda: print(os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
        app.main()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["10000000", "False"], done.stderr


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, wall: float, busy: float
) -> str:
    """What is said after a block of so many seconds, on four cores."""
    clock: Any = SimpleNamespace(
        perf_counter=iter((0.0, wall)).__next__, process_time=iter((5.0, 5.0 + busy)).__next__
    )
    monkeypatch.setattr(cores, "time", clock)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    engine: Any = SimpleNamespace(target=SimpleNamespace(device=torch.device("cpu")))
    keep_threads_awake()
    with told_of_neighbours(engine):
        pass
    return capsys.readouterr().err


def test_neighbours_are_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a slow answer without a reason."""
    text = said(monkeypatch, capsys, wall=10, busy=26)
    assert "35% of the time of the 4 cores" in text
    assert "--threads 2 " in text


@pytest.mark.parametrize(("wall", "busy"), [(10, 39), (0.5, 0.5)], ids=["idle", "short"])
def test_nothing_is_said_of_none(
    wall: float,
    busy: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against a remark under every answer."""
    assert said(monkeypatch, capsys, wall=wall, busy=busy) == ""


def test_threads_that_sleep_say_nothing_of_neighbours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a wrong reason: threads that the user lets sleep leave time to nobody."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert said(monkeypatch, capsys, wall=10, busy=12) == ""


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_traceback(tiny: Path, closing: str) -> None:
    """Guards against a supervisor that starts programs without one of them."""
    command = 'exec "$0" -c "from selfdraft.cli.app import main; main()" generate "$1" -q '
    prompt = "-" if closing == "<&-" else "hi"
    shell = ["sh", "-c", f"{command} --max-new-tokens 2 {prompt} {closing}", sys.executable]
    done = subprocess.run(
        [*shell, str(tiny)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == (2 if closing == "<&-" else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert ("the prompt is empty" in done.stderr) == (closing == "<&-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("form", ["--no-stats", "--json"])
def test_a_full_disk_is_said(tiny: Path, form: str) -> None:
    """Guards against a traceback, and against a text that is lost in silence."""
    program = "from selfdraft.cli.app import main; main()"
    command = [sys.executable, "-c", program, "generate", str(tiny), "hi", form]
    # What is buffered is written once more at the end, and fails once more.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--max-new-tokens", "2"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write to stdout (No space left on device)")
    assert len(done.stderr.splitlines()) == 1
