"""`selfdraft chat`: a conversation in the terminal, or one message per line of stdin."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from selfdraft.cli.chat_commands import ChatCommands
from selfdraft.cli.command import print_error
from selfdraft.cli.conversation import Conversation
from selfdraft.cli.options import DraftOptions, ModelOptions, SamplingOptions
from selfdraft.cli.prompt_options import require_utf8
from selfdraft.cli.terminal import end_line, say, stream_text
from selfdraft.config import require
from selfdraft.errors import SelfdraftError

_GREETING = "Type a message. /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves."

# Why an answer ended, where its reader could not know.
_NOTES = {
    "length": "(cut after {num} tokens: --max-new-tokens allows no more)",
    "context": "(cut after {num} tokens: the model's context is full; /reset starts anew)",
    None: "(stopped after {num} tokens)",
}


def chat(
    model: ModelOptions,
    sampling: SamplingOptions,
    draft: DraftOptions,
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="System message to begin with.", rich_help_panel="Chat"),
    ] = None,
    copy_earlier_texts: Annotated[
        bool,
        typer.Option(
            "--copy-earlier-texts",
            help="Draft with copies from the conversations before /reset too: faster where they "
            "are repeated, and the same text.",
            rich_help_panel="Draft",
        ),
    ] = False,
) -> None:
    """Talk with a model, which remembers the conversation.

    It needs a chat template. Input that is piped in is one message or command per line. Answers
    go to stdout, everything else to stderr.

    For example:

      selfdraft chat smollm2-135m --temperature 0.7
    """
    request = sampling.request()
    chosen = draft.resolve()
    with model.engine(chosen, copy_earlier_texts=copy_earlier_texts) as engine:
        require(
            engine.tokenizer is not None and engine.tokenizer.chat_template is not None,
            f"{model.model} has no chat template, so it cannot hold a conversation: continue a "
            f"text with `selfdraft generate {model.model} --raw`",
        )
        conversation = Conversation(engine, request, draft=chosen, system=system)
        _talk(conversation, ChatCommands(conversation, model.model))


def _talk(conversation: Conversation, commands: ChatCommands) -> None:
    """Answer messages and obey commands until there are no more lines."""
    for line in _lines():
        try:
            if line.startswith("/"):
                commands.obey(line)
            elif line.strip():
                _answer(conversation, line.strip())
        except SelfdraftError as error:
            print_error(error)
        if commands.is_over:
            return


def _answer(conversation: Conversation, text: str) -> None:
    """Stream the answer to stdout. Ctrl-C ends the answer and no more: its beginning counts."""
    require_utf8(text)
    generation = conversation.ask(text)
    try:
        stream_text(generation)
    finally:
        result = generation.result
        conversation.keep(text, result)
    sys.stdout.write("\n")
    end_line()  # on a terminal a blank line, before what comes next
    if result.finish_reason in _NOTES:
        say(_NOTES[result.finish_reason].format(num=result.stats.num_new_tokens))


def _lines() -> Iterator[str]:
    """What the user types, or what is piped in, without line breaks."""
    if not sys.stdin.isatty():
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", errors="surrogateescape").rstrip("\r\n")
        return
    with contextlib.suppress(ImportError):  # Windows has none
        import readline  # noqa: F401  # gives `input` a line to edit and a history
    say(_GREETING)
    while True:
        try:
            line = input("> ")
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:
            say("\n(Ctrl-D or /exit leaves)")
            continue
        yield line
