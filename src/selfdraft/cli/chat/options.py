"""Who answers in a chat: a model that is loaded here, or a server that runs already."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.chat.answers import Answerer
from selfdraft.cli.options import DraftOptions, ModelOptions
from selfdraft.config import RequestOptions, require

if TYPE_CHECKING:
    from selfdraft.drafts import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModelOptions(ModelOptions):
    """As for other commands, but with a server the model may be left out."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An alias (smollm2-135m), a Hugging Face hub id, a local folder or a .gguf file; "
            "with --url the name of one of the server's models, or nothing.",
            show_default=False,
        ),
    ] = ""

    @contextmanager
    def answerer(
        self, draft: "Draft", request: RequestOptions, *, copy_earlier_texts: bool
    ) -> Iterator[Answerer]:
        """The model, loaded for the length of the block.

        Raises:
            ConfigError: none is named, or it has no chat template.
        """
        require(bool(self.model), "there is nobody to talk with: give MODEL, or --url of a server")
        with self.engine(draft, copy_earlier_texts=copy_earlier_texts) as engine:
            from selfdraft.cli.chat.engine_answers import EngineAnswerer

            require(
                engine.tokenizer is not None and engine.tokenizer.chat_template is not None,
                f"{self.model} has no chat template, so it cannot hold a conversation: continue a "
                f"text with `selfdraft generate {self.model} --raw`",
            )
            yield EngineAnswerer(engine, self.model, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Which server answers, if one does."""

    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Talk with the server there, which `selfdraft serve` started, instead of loading "
            "a model.",
            rich_help_panel="Server",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="SELFDRAFT_API_KEY",
            help="The server's key, if it asks for one.",
            rich_help_panel="Server",
        ),
    ] = None

    @contextmanager
    def answerer(self, model: ChatModelOptions, request: RequestOptions) -> Iterator[Answerer]:
        """The server at `url`, for the length of the block."""
        from selfdraft.cli.chat.server_answers import ServerAnswerer
        from selfdraft.cli.chat.server_client import ServerClient

        client = ServerClient(self.url or "", self.api_key)
        try:
            yield ServerAnswerer(client, model.model or None, request)
        finally:
            client.close()


def require_nothing_local(
    model: ChatModelOptions, draft: DraftOptions, *, copy_earlier_texts: bool
) -> None:
    """Raise `ConfigError` for options of a model that is loaded here: a server has its own."""
    default = ChatModelOptions()
    given = {
        "--dtype": model.dtype != default.dtype,
        "--device": model.device != default.device,
        "--threads": model.threads is not None,
        "--skip-set": draft.skip_set is not None,
        "--skip-ratio": draft.skip_ratio is not None,
        "--copy-earlier-texts": copy_earlier_texts,
    }
    names = [name for name, is_given in given.items() if is_given]
    require(
        not names,
        f"{', '.join(names)} would be for a model that is loaded here: leave it out with --url",
    )
