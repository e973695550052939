"""Options of more than one benchmark: how much text is written and how, and what is planted."""

from typing import Annotated

import typer

MaxNewTokens = Annotated[
    int,
    typer.Option(
        metavar="N", help="Most tokens to write for each prompt.", rich_help_panel="How much"
    ),
]
MaxPromptTokens = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Leave out prompts that are longer.", rich_help_panel="How much"
    ),
]
Temperature = Annotated[
    float,
    typer.Option(metavar="T", help="0 is greedy; else sample.", rich_help_panel="How much"),
]
Noise = Annotated[
    float,
    typer.Option(
        metavar="X",
        help="With --planted: every second redundant layer adds this share of what the layer that "
        "it copies adds.",
        rich_help_panel="What",
    ),
]
