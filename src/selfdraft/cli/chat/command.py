"""`selfdraft chat`: a conversation in the terminal, or one message per line of stdin."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from selfdraft.cli.chat.answers import Outcome
from selfdraft.cli.chat.commands import ChatCommands
from selfdraft.cli.chat.conversation import Conversation
from selfdraft.cli.chat.options import ChatModelOptions, ServerOptions, require_nothing_local
from selfdraft.cli.command import print_error
from selfdraft.cli.options import DraftOptions, SamplingOptions
from selfdraft.cli.prompt_options import require_utf8
from selfdraft.cli.terminal import end_line, say, stream_text, write_out
from selfdraft.errors import PromptError, SelfdraftError

_GREETING = "Type a message. /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves."

# Why an answer ended, where its reader could not know.
_NOTES = {
    "length": "(cut after {num} tokens: --max-new-tokens allows no more)",
    "context": "(cut after {num} tokens: the model's context is full; /reset starts anew)",
    None: "(stopped after {num} tokens)",
}


def chat(
    model: ChatModelOptions,
    server: ServerOptions,
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

      selfdraft chat --url http://127.0.0.1:8000
    """
    request = sampling.request()
    chosen = draft.resolve()
    require_utf8(system or "")
    if server.url is None:
        answerers = model.answerer(chosen, request, copy_earlier_texts=copy_earlier_texts)
    else:
        require_nothing_local(model, draft, copy_earlier_texts=copy_earlier_texts)
        answerers = server.answerer(model, request)
    with answerers as answerer:
        _talk(Conversation(answerer, draft=chosen, system=system))


def _talk(conversation: Conversation) -> None:
    """Answer messages and obey commands until there are no more lines."""
    commands = ChatCommands(conversation)
    for line in _lines():
        try:
            if line.startswith("/"):
                commands.obey(line)
            elif line.strip():
                _answer(conversation, line.strip())
        except SelfdraftError as error:
            print_error(error)
        except KeyboardInterrupt:
            say("(stopped)")
        if commands.is_over:
            return


def _answer(conversation: Conversation, text: str) -> None:
    """Stream the answer to stdout. Ctrl-C ends the answer and no more: its beginning counts."""
    require_utf8(text)
    try:
        outcome = _stream(conversation, text)
    except PromptError as error:
        raise PromptError(f"{error}; /reset starts a new conversation") from error
    end_line()  # on a terminal a blank line, before what comes next
    if outcome.finish_reason in _NOTES:
        say(_NOTES[outcome.finish_reason].format(num=outcome.num_new_tokens))


def _stream(conversation: Conversation, text: str) -> Outcome:
    """Write the answer as it comes, and what there is of it becomes part of the conversation."""
    answer = conversation.ask(text)
    has_failed = True
    try:
        stream_text(answer)
        has_failed = False
    finally:
        answer.close()
        outcome = answer.outcome
        conversation.keep(text, outcome)
        if outcome.text or not has_failed:
            write_out("\n")
    return outcome


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
