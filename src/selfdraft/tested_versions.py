"""The newest versions of torch and transformers that every test has passed with.

Newer ones are not refused: most work, and what a model computes is certified at each load. But a
user whose output is odd should know where to look first.
"""

import warnings
from functools import cache
from importlib.metadata import version

from packaging.version import Version

from selfdraft.errors import SelfdraftWarning

NEWEST_TESTED = {"torch": "2.15", "transformers": "5.24"}
"""By package; a later bug-fix release of the same version counts as tested."""


@cache
def warn_of_untested_versions() -> None:
    """Warn once in a process of each package that is newer than any version tested.

    Warns:
        SelfdraftWarning: with the version that is here and the one that was tested.
    """
    for package, tested in NEWEST_TESTED.items():
        found = version(package)
        if Version(found).release[:2] > Version(tested).release:
            warnings.warn(
                f"{package} {found} is newer than the newest that this version of selfdraft was "
                f"tested with ({tested}): if anything is odd, run `selfdraft check MODEL`",
                SelfdraftWarning,
                stacklevel=3,  # who made the engine
            )
