"""The options that say what the model is asked."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.config import require
from selfdraft.errors import PromptError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from selfdraft.text.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """What the model is asked."""

    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT",
            help="What to say to the model; - or nothing reads it from stdin, less one line break "
            "at its end.",
            show_default=False,
        ),
    ] = None
    system: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="System message before the prompt.",
            rich_help_panel="Prompt",
        ),
    ] = None
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Continue the prompt as it is, without the model's chat template.",
            rich_help_panel="Prompt",
        ),
    ] = False

    def __post_init__(self) -> None:
        require(
            not (self.raw and self.system is not None),
            "--raw sends no system message: leave out --system or --raw",
        )

    def read(self) -> str:
        """The prompt's text, from the argument or from stdin."""
        text = _read_stdin() if self.prompt is None or self.prompt == "-" else self.prompt
        if not text:
            raise PromptError("the prompt is empty: give at least one character")
        require_utf8(text)
        return text

    def for_model(self, text: str, tokenizer: "PreTrainedTokenizerBase | None") -> "Prompt":
        """`text` as a user message if the model has a chat template, else as it is."""
        require(
            tokenizer is not None,
            "this model has no tokenizer, and the command line speaks text: add the tokenizer's "
            "files to its folder, or use the Python API with token ids",
        )
        has_template = tokenizer is not None and tokenizer.chat_template is not None
        require(
            has_template or self.system is None,
            "--system needs a chat template, which this model does not have: leave it out",
        )
        if self.raw or not has_template:
            return text
        user = {"role": "user", "content": text}
        return [user] if self.system is None else [{"role": "system", "content": self.system}, user]


def require_utf8(text: str) -> None:
    """Raise `PromptError` for bytes that are not UTF-8, which Python reads as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            "the prompt is not valid UTF-8: convert it, for example with iconv"
        ) from error


def _read_stdin() -> str:
    if sys.stdin.isatty():
        raise PromptError("no prompt: give PROMPT, or pipe text in (echo ... | selfdraft generate)")
    text = sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape")
    return text.removesuffix("\n")
