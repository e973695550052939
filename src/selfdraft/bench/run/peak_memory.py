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
    return _status_bytes("VmHWM")


def resident_bytes() -> int | None:
    """Resident bytes now; None where the system does not say."""
    return _status_bytes("VmRSS") if (_PROCESS / "status").exists() else None


def _status_bytes(name: str) -> int:
    status = (_PROCESS / "status").read_text()
    match = re.search(rf"{name}:\s+(\d+) kB", status)
    assert match is not None, "Linux writes it for every process"
    return int(match[1]) * 1024
