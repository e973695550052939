"""The options of `selfdraft bench run`, which `bench speed` has, too, with other defaults."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from selfdraft.bench.methods.peer_command import PREFIX, PeerCommand
from selfdraft.cli.bench.text_options import MaxNewTokens, MaxPromptTokens, Temperature
from selfdraft.cli.option_checks import listed, require_positive
from selfdraft.config import RequestConfig, require

Methods = Annotated[
    list[str],
    typer.Option(
        metavar="METHOD",
        help="transformers (plain generate), transformers-lookup, transformers-assisted, "
        "transformers-early-exit; off, auto, swift, suffix, recycling; auto-no-copy (auto without "
        "a copy of the weights in fewer bits), unpacked (off with weights where they were loaded); "
        "skip-set=FILE, skip-ratio=R, bits=N; peer=NAME. Several: with commas, or the option "
        "again.",
        rich_help_panel="What",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Most prompts per task, spread over its categories; always the same ones.",
        rich_help_panel="How much",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What to measure, how much of it, and where the results go."""

    tasks: Annotated[
        list[str],
        typer.Option(
            metavar="TASK",
            help="built-in, spec-bench, gsm8k, humaneval, cnn-dm, tinystories, wmt or alpaca; "
            "TASK/CATEGORY for one of its categories; TASK=FILE.jsonl or FILE.jsonl to read a "
            "file. Several: with commas, or the option again.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=lambda: ["built-in"])
    methods: Methods = field(default_factory=lambda: ["transformers", "off", "auto"])
    assistant: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The second model of transformers-assisted.",
            rich_help_panel="What",
        ),
    ] = None
    peer: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=COMMAND",
            help="Another program to measure, which speaks the protocol of docs/benchmarks.md. "
            "It becomes the method peer=NAME, the last one unless --methods says where. May be "
            "given several times.",
            rich_help_panel="What",
        ),
    ] = field(default_factory=list)
    peer_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How long a peer may take to load, and for each answer.",
            rich_help_panel="What",
        ),
    ] = 600.0
    limit: Limit = None
    max_new_tokens: MaxNewTokens = 128
    max_prompt_tokens: MaxPromptTokens = None
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N", help="Times to measure every prompt.", rich_help_panel="How much"
        ),
    ] = 1
    temperature: Temperature = 0.0
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop after the prompt during which it runs out; the same command goes on.",
            rich_help_panel="How much",
        ),
    ] = None
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Also time single passes by their number of rows.",
            rich_help_panel="How much",
        ),
    ] = False
    execute_code: Annotated[
        bool,
        typer.Option(
            "--execute-code",
            help="Score HumanEval by running what the model wrote, in a subprocess with limits of "
            "time and memory. That is no safe place for a stranger's code.",
            rich_help_panel="How much",
        ),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where results go, and where an earlier run with the same arguments goes on; "
            "named after model and arguments unless given.",
            rich_help_panel="Output",
        ),
    ] = None

    def __post_init__(self) -> None:
        for name in ("tasks", "methods"):
            names = listed(name, getattr(self, name))
            require(bool(names), f"{name} is empty: name at least one")
            object.__setattr__(self, name, names)
        object.__setattr__(self, "methods", self._with_peers())
        RequestConfig(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        require_positive(self, "limit", "max_prompt_tokens", "repeats")
        require_positive(self, "time_limit", "peer_timeout", remedy="seconds above 0")

    @property
    def peers(self) -> list[PeerCommand]:
        """The programs of `peer`."""
        return [PeerCommand.parse(text) for text in self.peer]

    def arguments(self, model: str) -> dict[str, Any]:
        """What makes results comparable: everything but how long to run and where to write."""
        names = ("tasks", "methods", "assistant", "peer", "limit", "max_new_tokens")
        chosen = (*names, "max_prompt_tokens", "repeats", "temperature")
        return {"model": model} | {name: getattr(self, name) for name in chosen}

    def folder(self, model: str) -> Path:
        """Where results go."""
        if self.out is not None:
            return self.out
        text = json.dumps(self.arguments(model), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return Path("bench-results") / f"{Path(model).name}-{digest}"

    def _with_peers(self) -> list[str]:
        """The methods, and every peer that is not among them."""
        peers = [peer.method for peer in self.peers]
        require(len(set(peers)) == len(peers), f"peer has {self.peer}: name each once")
        for method in self.methods:
            if method.startswith(PREFIX) and method not in peers:
                name = method.removeprefix(PREFIX)
                require(False, f"method {method!r} is not known: give --peer {name}=COMMAND, too")
        return [*self.methods, *(peer for peer in peers if peer not in self.methods)]
