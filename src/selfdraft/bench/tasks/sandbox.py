"""Running code that a model wrote, in a process of its own with limits.

What the limits stop: endless loops, memory without end, files beyond a few kilobytes, a process
that outlives its time. What they do not stop: reading files of this user, and using the network.
Code of a stranger belongs into a container or a virtual machine.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

_SECONDS = 10
_MEMORY_BYTES = 1 << 30
_FILE_BYTES = 1 << 16

# The child limits itself before it reads the code, so the parent's threads are not involved.
_CHILD = f"""
import sys
try:
    import resource
except ImportError:  # Windows: the time limit of the parent is all there is
    pass
else:
    for kind, limit in (
        (resource.RLIMIT_CPU, {_SECONDS}),
        (resource.RLIMIT_AS, {_MEMORY_BYTES}),
        (resource.RLIMIT_FSIZE, {_FILE_BYTES}),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
program = sys.stdin.read()
sys.stdin.close()
exec(compile(program, "program", "exec"), {{"__name__": "program"}})
print("selfdraft: the program came to its end")
"""
_END = "selfdraft: the program came to its end"


def runs_without_error(program: str) -> bool:
    """Whether the Python program ends by itself, in time, without an exception or an exit."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(program, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        finally:
            _kill_session(process)
    # An `exit(0)` in the middle of the tests is no success.
    return process.returncode == 0 and output.rstrip().endswith(_END)


def _kill_session(process: "subprocess.Popen[str]") -> None:
    """End the process and whatever it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
