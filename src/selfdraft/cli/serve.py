"""`selfdraft serve`: an HTTP server with OpenAI's API, and a page."""

import ipaddress
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from selfdraft.cli.config_file import ConfigFile
from selfdraft.cli.options import DraftOptions, ModelOptions
from selfdraft.cli.terminal import say, spinner
from selfdraft.errors import ConfigError
from selfdraft.server.settings import ServerSettings

if TYPE_CHECKING:
    from selfdraft.drafts import Draft
    from selfdraft.engine import Engine

_SETTINGS = ServerSettings(served_model_name="MODEL")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Where the server is, and who may use it."""

    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="Address to listen on. 127.0.0.1 is for this machine alone; 0.0.0.0 is for the "
            "network too.",
            rich_help_panel="Server",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", help="Port to listen on; 0 takes a free one.", rich_help_panel="Server"
        ),
    ] = 8000
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="SELFDRAFT_API_KEY",
            help="What clients must send as `Authorization: Bearer KEY`. In the environment no "
            "list of processes shows it.",
            rich_help_panel="Server",
        ),
    ] = None
    served_model_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name by which clients ask for the model; MODEL unless given.",
            rich_help_panel="Server",
        ),
    ] = None
    cors_origin: Annotated[
        list[str],
        typer.Option(
            metavar="ORIGIN",
            help="Let web pages of ORIGIN call the API; may be given several times.",
            rich_help_panel="Server",
        ),
    ] = field(default_factory=list)
    log_prompts: Annotated[
        bool,
        typer.Option(
            "--log-prompts", help="Write prompts into the log too.", rich_help_panel="Server"
        ),
    ] = False

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port is {self.port}: give 0 (a free one) to 65535")

    def warn(self) -> None:
        """Say so if anybody on the network may use the model."""
        if self.api_key is None and not _is_loopback(self.host):
            say(f"warning: anybody who reaches {self.host} may use the model: give an --api-key")

    def url(self, port: int) -> str:
        """Where a browser finds the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """How much the server takes on."""

    max_queue: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Requests that may wait; more are refused with status 429.",
            rich_help_panel="Limits",
        ),
    ] = _SETTINGS.max_queue
    max_running: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Requests that take turns; each has its own cache in memory.",
            rich_help_panel="Limits",
        ),
    ] = _SETTINGS.max_running
    max_model_len: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Most tokens of prompt and output together; the model's context unless given.",
            rich_help_panel="Limits",
        ),
    ] = None
    max_body_bytes: Annotated[
        int,
        typer.Option(
            metavar="N", help="Largest body of a request, in bytes.", rich_help_panel="Limits"
        ),
    ] = _SETTINGS.max_body_bytes
    shutdown_seconds: Annotated[
        float,
        typer.Option(
            metavar="S",
            help="How long running requests may go on after SIGTERM or Ctrl-C.",
            rich_help_panel="Limits",
        ),
    ] = _SETTINGS.shutdown_seconds


def serve(
    model: ModelOptions,
    listen: ListenOptions,
    limits: LimitOptions,
    draft: DraftOptions,
    config: ConfigFile = None,
) -> None:
    """Serve a model over HTTP: OpenAI's API, and a page to talk with it.

    Open the address that it prints in a browser, or give it to an OpenAI client:
    base_url="http://127.0.0.1:8000/v1". The log goes to stderr, a JSON object a line. SIGTERM and
    Ctrl-C let running requests end.

    For example:

      selfdraft serve smollm2-135m

      SELFDRAFT_API_KEY=secret selfdraft serve smollm2-135m --port 8080
    """
    chosen = draft.resolve()
    settings = ServerSettings(
        served_model_name=listen.served_model_name or model.model,
        draft=chosen,
        api_key=listen.api_key,
        max_queue=limits.max_queue,
        max_running=limits.max_running,
        max_model_len=limits.max_model_len,
        max_body_bytes=limits.max_body_bytes,
        cors_origins=tuple(listen.cors_origin),
        log_prompts=listen.log_prompts,
        shutdown_seconds=limits.shutdown_seconds,
    )
    listen.warn()
    require_server_packages()
    with ExitStack() as stack:
        # In the thread that computes: torch keeps the number of threads for each.
        _run(settings, model, listen, lambda: _load(stack, model, chosen))


def _run(
    settings: ServerSettings,
    model: ModelOptions,
    options: ListenOptions,
    load_engine: Callable[[], "Engine"],
) -> None:
    with spinner("starting torch", hidden=model.verbose):
        from selfdraft.server.app import create_app
        from selfdraft.server.logging_format import logging_to_stderr
        from selfdraft.server.running import DrainingServer, listen
    listener = listen(options.host, options.port)
    url = options.url(listener.getsockname()[1])
    server = DrainingServer(
        create_app(settings, load_engine=load_engine),
        on_ready=lambda: say(f"Serving {model.model} at {url} (Ctrl-C ends it)"),
        must_exit=True,
    )
    with logging_to_stderr(is_verbose=model.verbose):
        server.serve_on(listener)


def _load(stack: ExitStack, model: ModelOptions, draft: "Draft") -> "Engine":
    return stack.enter_context(model.engine(draft))


def require_server_packages() -> None:
    """Raise `ConfigError` if the packages that only the server needs are not there."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"the server needs {error.name}, which is not installed: pip install 'selfdraft[serve]'"
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
