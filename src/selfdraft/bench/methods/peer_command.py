"""A peer's name and command, as the user writes them. `peer` runs it; this needs no torch."""

import shlex
from dataclasses import dataclass

from selfdraft.config import require
from selfdraft.errors import ConfigError

PREFIX = "peer="
"""How the names of methods begin that are peers: `peer=NAME`."""


@dataclass(frozen=True, slots=True)
class PeerCommand:
    """Another program to measure."""

    name: str
    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "PeerCommand":
        """Read `NAME=COMMAND`; the command is split as a shell would, but no shell runs it.

        Raises:
            ConfigError: the name or the command is missing, or a quotation is not closed.
        """
        name, _, command = text.partition("=")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise ConfigError(f"peer {text!r} cannot be split: {error}; close it") from error
        require(bool(name and words), f"peer is {text!r}: give NAME=COMMAND")
        require("," not in name, f"peer {name!r} has a comma in its name: leave it out")
        return cls(name, words)

    @property
    def method(self) -> str:
        """The name of its method."""
        return PREFIX + self.name
