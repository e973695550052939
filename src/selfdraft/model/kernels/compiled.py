"""The kernels of our own: the C files of `csrc`, built at install where there is a GCC.

Nothing needs them: whoever asks for one has another way to compute the same.
"""

import ctypes
import sysconfig
from collections.abc import Callable
from pathlib import Path

Kernel = Callable[..., None]


def load_kernel(name: str, version: int, arguments: list[type]) -> Kernel | None:
    """The function `name` of `csrc/name.c`; None if it was not built, or if this CPU cannot run it.

    A build from before a change of its arguments or layout has another version and is not used.
    """
    file = Path(__file__).with_name(f"_{name}{sysconfig.get_config_var('EXT_SUFFIX')}")
    try:
        library = ctypes.CDLL(str(file))
    except OSError:
        return None
    if getattr(library, f"{name}_version", lambda: 0)() != version:
        return None
    if not library[f"{name}_is_supported"]():
        return None
    kernel = library[name]
    kernel.argtypes, kernel.restype = arguments, None
    return kernel
