"""The commands of a chat: lines that begin with a slash."""

import json
from pathlib import Path
from typing import cast, get_args

from selfdraft.cli.chat.conversation import Conversation
from selfdraft.cli.options import DraftMode
from selfdraft.cli.prompt_options import require_utf8
from selfdraft.cli.stats_table import named_values
from selfdraft.cli.terminal import say, stderr_console
from selfdraft.config import require
from selfdraft.errors import ConfigError

_HELP = """\
/help               this list
/reset              forget the conversation; the system message stays
/system [TEXT]      set the system message, or show it
/stats              statistics of the last answer
/draft [MODE]       draft with auto, swift or off, or show which is used
/save FILE          write the conversation to FILE as JSON
/exit               leave, as Ctrl-D does
A message that begins with a slash needs a space before it."""


class ChatCommands:
    """Obeys commands by changing or showing a conversation. `is_over` after /exit."""

    def __init__(self, conversation: Conversation) -> None:
        self.is_over = False
        self._conversation = conversation
        self._handlers = {
            "help": self._help,
            "reset": self._reset,
            "system": self._system,
            "stats": self._stats,
            "draft": self._draft,
            "save": self._save,
            "exit": self._exit,
        }

    def obey(self, line: str) -> None:
        """Do what the command in `line` says.

        Raises:
            ConfigError: there is no such command, or its argument is wrong.
        """
        name, _, argument = line.removeprefix("/").partition(" ")
        handler = self._handlers.get(name)
        if handler is None:
            raise ConfigError(f"unknown command /{name}: /help lists the commands")
        handler(argument.strip())

    def _help(self, _: str) -> None:
        say(_HELP)

    def _reset(self, _: str) -> None:
        self._conversation.reset()
        say("(a new conversation)")

    def _system(self, text: str) -> None:
        require_utf8(text)
        if text:
            self._conversation.system = text
        say(f"(system message: {self._conversation.system or 'none'})")

    def _stats(self, _: str) -> None:
        outcome = self._conversation.last_outcome
        if outcome is None:
            raise ConfigError("there is no answer yet: write a message first")
        stderr_console().print(named_values(outcome.statistics))

    def _draft(self, mode: str) -> None:
        modes = get_args(DraftMode)
        require(mode in ("", *modes), f"/draft {mode}: give one of {', '.join(modes)}")
        if mode:
            self._conversation.draft = cast(DraftMode, mode)
        say(f"({self._conversation.answerer.describe(self._conversation.draft)})")

    def _save(self, name: str) -> None:
        require(bool(name), "/save needs a file: /save FILE")
        name_of_model = self._conversation.answerer.name
        document = {"model": name_of_model, "messages": self._conversation.messages}
        path = Path(name).expanduser()
        try:
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path} ({error.strerror}): name another") from error
        say(f"(saved to {path})")

    def _exit(self, _: str) -> None:
        self.is_over = True
