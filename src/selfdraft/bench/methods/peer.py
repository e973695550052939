"""A peer: another program that writes the same text, in a process and an environment of its own.

It is started once and speaks JSON, one object a line: first it says that it is ready, then it
answers one request at a time.

    peer     {"ready": true, "name": "what it calls itself"}
    to peer  {"id": 1, "token_ids": [...], "max_new_tokens": 128, "temperature": 0.0, "seed": 0,
              "eos_token_ids": [...]}
    peer     {"id": 1, "token_ids": [...], "seconds": 3.5}

A peer measures its own seconds, from the request to the last token. Its standard output is for
these lines alone; what it writes to stderr is shown when it fails. It ends with its input.
"""

import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeGuard, cast

from selfdraft.bench.methods.method import Family, Output, Request
from selfdraft.bench.methods.peer_command import PeerCommand
from selfdraft.errors import PeerError

# How long a peer may take to leave, when it is asked to and when it is told to.
_LEAVING_SECONDS = 5.0

_NUM_SHOWN_LINES = 8
_NUM_SHOWN_CHARACTERS = 200


class PeerMethod:
    """A running peer as a method."""

    family: Family = "peer"

    def __init__(self, command: PeerCommand, process: "_Process", title: str) -> None:
        self.name = command.method
        self.title = title
        """What it calls itself."""
        self._process = process

    def run(self, request: Request) -> Output:
        """Ask, and wait for the answer. What the peer does not measure is None.

        Raises:
            PeerError: it ended, took too long, or what it wrote is no answer.
        """
        number, answer = self._process.ask(request)
        token_ids, seconds = answer.get("token_ids"), answer.get("seconds")
        is_asked_for = answer.get("id") == number
        if not is_asked_for or not _are_tokens(token_ids) or not _is_duration(seconds):
            raise self._process.error(
                f"answered {_shortened(json.dumps(answer))} to request {number}",
                f'let it answer {{"id": {number}, "token_ids": [...], "seconds": S}}, once',
            )
        return Output(
            token_ids=tuple(token_ids),
            total_seconds=float(seconds),
            prefill_seconds=None,
            decode_seconds=None,
            num_decoded=0,
            timeline=((float(seconds), len(token_ids)),),
        )


@contextmanager
def running_peer(
    command: PeerCommand, *, eos_token_ids: frozenset[int], timeout: float
) -> Iterator[PeerMethod]:
    """A peer that is ready, for the length of the block; it is ended on every way out.

    It may take `timeout` seconds to become ready, and as long for each answer. Ctrl-C does not
    reach it: whoever measures decides when it ends.

    Raises:
        PeerError: it cannot be started, ended, took too long, or did not say that it is ready.
    """
    with tempfile.TemporaryFile() as log:
        process = _Process(command, log, sorted(eos_token_ids), timeout)
        try:
            yield PeerMethod(command, process, process.wait_until_ready())
        finally:
            process.end()


class _Process:
    """The process of a peer, and the lines to it and from it."""

    def __init__(
        self, command: PeerCommand, log: IO[bytes], eos_token_ids: list[int], timeout: float
    ) -> None:
        self._command = command
        self._log = log
        self._eos_token_ids = eos_token_ids
        self._timeout = timeout
        self._unread = b""
        self._num_asked = 0
        try:
            self._child = subprocess.Popen(
                command.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise PeerError(
                f"peer {command.name!r} cannot be started: {command.words[0]}: {error.strerror}; "
                "give a program that can be run"
            ) from error

    def wait_until_ready(self) -> str:
        """What the peer calls itself."""
        found = self._read("loading")
        if found.get("ready") is not True:
            raise self.error(
                f"began with {_shortened(json.dumps(found))}",
                'let its first line be {"ready": true, "name": ...}',
            )
        return str(found.get("name", self._command.name))

    def ask(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        """The number of the request, which its answer should have, and the next answer."""
        self._num_asked += 1
        question = {
            "id": self._num_asked,
            "token_ids": request.token_ids,
            "max_new_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "eos_token_ids": self._eos_token_ids,
        }
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(question).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        return self._num_asked, self._read("answering")

    def end(self) -> None:
        """Close its input, then terminate it, then kill it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with suppress(BrokenPipeError):  # it was gone, with a request half written
            self._child.stdin.close()
        try:
            if not self._leaves():
                self._signal(signal.SIGTERM)
                self._leaves()
        finally:  # also where a second Ctrl-C comes while we wait
            self._signal(signal.SIGKILL)
            self._child.wait()
            self._child.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        """To the peer and to what it started: its session is a group of processes of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

    def error(self, what: str, remedy: str) -> PeerError:
        """That the peer did `what`, with the end of what it wrote to stderr."""
        return PeerError(f"peer {self._command.name!r} {what}: {remedy}{self._last_words()}")

    def _read(self, doing: str) -> Mapping[str, Any]:
        line = self._read_line(doing)
        try:
            found = json.loads(line)
        except ValueError:  # no JSON, or no text at all
            found = None
        if not isinstance(found, dict):
            raise self.error(
                f"wrote {_shortened(line.decode(errors='replace'))!r} to its standard output, "
                "which is no JSON object",
                "let it write everything but its answers to stderr",
            )
        return found

    def _read_line(self, doing: str) -> bytes:
        assert self._child.stdout is not None
        pipe = self._child.stdout.fileno()
        deadline = time.monotonic() + self._timeout
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise self.error(
                    f"has been {doing} for {self._timeout:g} seconds", "allow more: --peer-timeout"
                )
            received = os.read(pipe, 2**16)
            if not received:
                raise self._ended()
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _leaves(self) -> bool:
        try:
            self._child.wait(_LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _ended(self) -> PeerError:
        is_over = self._leaves()
        code = self._child.returncode
        how = f"ended with exit code {code}" if is_over else "closed its standard output"
        return self.error(how, "see whether its command works by itself")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        written = [_shortened(line) for line in lines if line.strip()]
        return "\n".join(
            ["; its stderr ended with:", *written[-_NUM_SHOWN_LINES:]] if written else ""
        )


def _are_tokens(value: object) -> TypeGuard[list[int]]:
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(type(token) is int and token >= 0 for token in cast(list[object], value))


def _is_duration(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _shortened(text: str) -> str:
    is_long = len(text) > _NUM_SHOWN_CHARACTERS
    return text[:_NUM_SHOWN_CHARACTERS] + "..." if is_long else text
