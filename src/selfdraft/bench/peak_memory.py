"""The most memory that the process held at once."""

import re
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> bool:
    """Start a new peak at the present use. False where the system cannot do that."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Peak resident bytes since the last `reset_peak` that returned True."""
    status = (_PROCESS / "status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None, "Linux writes VmHWM for every process"
    return int(match[1]) * 1024
