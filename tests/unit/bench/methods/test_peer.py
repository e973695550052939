"""Peers: other programs that are measured, well-behaved ones and others."""

import os
import select
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from selfdraft.bench.methods import peer
from selfdraft.bench.methods.method import Request
from selfdraft.bench.methods.peer import PeerMethod, running_peer
from selfdraft.bench.methods.peer_command import PeerCommand
from selfdraft.errors import ConfigError, PeerError

PROGRAM = Path(__file__).parents[3] / "fake_peer.py"
REQUEST = Request((7, 8, 9), max_new_tokens=4, temperature=0.5, seed=6)


@contextmanager
def fake(mode: str, timeout: float = 30.0) -> Iterator[PeerMethod]:
    command = PeerCommand.parse(f"fake={shlex.join([sys.executable, str(PROGRAM), mode])}")
    with running_peer(command, eos_token_ids=frozenset([5, 2]), timeout=timeout) as method:
        yield method


def pid_of(method: PeerMethod) -> int:
    return method._process._child.pid


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_peer_is_asked_what_every_method_is_asked() -> None:
    """Guards against a peer that gets another prompt, limit, seed or end than the rest."""
    with fake("echo") as method:
        assert (method.name, method.family, method.title) == ("peer=fake", "peer", "numbers 1.0")
        output = method.run(REQUEST)
    assert output.token_ids == (7, 8, 9, 4, 6, 5, 2, 5)
    assert output.total_seconds == 2.0
    assert output.timeline == ((2.0, 8),)


def test_one_process_answers_all_requests() -> None:
    """Guards against a model that is loaded anew for every prompt."""
    with fake("good") as method:
        outputs = [method.run(Request((1,) * n, max_new_tokens=2)) for n in (3, 5)]
    assert [output.token_ids for output in outputs] == [(3, 4), (5, 6)]


def test_what_it_does_not_measure_is_not_zero() -> None:
    """Guards against a peer whose prefill took no time at all."""
    with fake("good") as method:
        output = method.run(REQUEST)
    assert output.prefill_seconds is None
    assert output.decode_seconds is None


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("dies loading", r"exit code 3.*works by itself.*no such model: nowhere"),
        ("not ready", r"began with .*\"ready\": true"),
        ("dies", r"exit code 9.*out of memory"),
        ("chatty", r"'INFO: what a nice request'.*stderr"),
        ("endless", r"answered \{.*Infinity"),
        ("no tokens", r"answered \{.*\"seconds\": 0.5\}.*token_ids"),
    ],
)
def test_misbehaviour_is_named(mode: str, message: str) -> None:
    """Guards against a run that hangs or counts nonsense, without a word of whose fault it is."""
    with pytest.raises(PeerError, match=f"(?s){message}"), fake(mode) as method:
        method.run(REQUEST)


def test_an_answer_too_many_is_not_taken_for_the_next() -> None:
    """Guards against a peer whose every time and text is that of the prompt before."""
    with fake("twice") as method, pytest.raises(PeerError, match="request 2"):
        _ = [method.run(REQUEST) for _ in range(2)]


def test_what_a_peer_started_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a launcher that is ended, and a model that stays in memory."""
    monkeypatch.setattr(peer, "_LEAVING_SECONDS", 0.2)
    with fake("parent") as method:
        (worker,) = method.run(REQUEST).token_ids
        handle = os.pidfd_open(worker)
    try:
        ended, _, _ = select.select([handle], [], [], 10)  # readable as soon as it has ended
    finally:
        os.close(handle)
    assert ended


@pytest.mark.parametrize(("mode", "doing"), [("silent", "loading"), ("slow", "answering")])
@pytest.mark.slow
def test_nobody_waits_for_ever(mode: str, doing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a night that is spent on a peer that hangs."""
    monkeypatch.setattr(peer, "_LEAVING_SECONDS", 0.1)
    limit = 0.2 if mode == "silent" else 2.0  # it has to be ready by then
    with pytest.raises(PeerError, match=f"{doing} for .*--peer-timeout"), fake(mode, limit) as it:
        it.run(REQUEST)


def test_it_ends_when_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a model that stays in memory after the run, whatever the peer wants."""
    monkeypatch.setattr(peer, "_LEAVING_SECONDS", 0.2)
    for mode in ("good", "stubborn"):
        with fake(mode) as method:
            method.run(REQUEST)
            pid = pid_of(method)
            assert is_there(pid)
        assert not is_there(pid)


def test_ctrl_c_ends_it_but_does_not_reach_it() -> None:
    """Guards against a peer that dies of the Ctrl-C which should only end the run."""
    pids: list[int] = []

    def interrupted_run() -> None:
        with fake("good") as method:
            pids.append(pid_of(method))
            # A terminal sends its signal to the session that it belongs to.
            assert os.getsid(pids[0]) == pids[0] != os.getsid(0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert not is_there(pids[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("python peer.py", "NAME=COMMAND"),
        ("=python peer.py", "NAME=COMMAND"),
        ("vllm=", "NAME=COMMAND"),
        ("vllm=python 'peer.py", "close it"),
        ("a,b=python", "comma"),
    ],
)
def test_mistakes_in_a_command_are_named(text: str, message: str) -> None:
    """Guards against a mistake that shows only after the model is loaded."""
    with pytest.raises(ConfigError, match=message):
        PeerCommand.parse(text)


def test_a_command_is_split_without_a_shell() -> None:
    """Guards against paths with spaces, and against a shell between us and the peer's pid."""
    command = PeerCommand.parse("mine=python 'my peer.py' A=1 --x='$HOME'")
    assert command.words == ("python", "my peer.py", "A=1", "--x=$HOME")


def test_a_program_that_is_not_there_is_named() -> None:
    """Guards against a traceback for a mistyped path."""
    command = PeerCommand("x", ("no-such-program",))
    with (
        pytest.raises(PeerError, match="no-such-program.*program that can be run"),
        running_peer(command, eos_token_ids=frozenset(), timeout=1),
    ):
        pass
