"""A generation's statistics as a table, and two of them side by side."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from selfdraft.decoding.stats import Stats
    from selfdraft.generation import Result

_ENDINGS = {
    "eos": "the model's end token",
    "stop": "a stop string",
    "length": "--max-new-tokens",
    "context": "the model's context is full",
    None: "interrupted",
}

# Two clocks never agree to a per cent, so less than this is neither faster nor slower.
_NOTICEABLE = 0.02


def stats_table(result: "Result", plan: str) -> "Table":
    """Every statistic of one generation; `plan` says what the draft skips."""
    return named_values(stats_rows(result, plan))


def named_values(rows: Iterable[tuple[str, str]]) -> "Table":
    """Names and values below each other."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def stats_rows(result: "Result", plan: str) -> tuple[tuple[str, str], ...]:
    """The names and values of `stats_table`."""
    stats = result.stats
    return (
        ("prefill", f"{stats.num_prompt_tokens} prompt tokens, {stats.prefill_seconds:.2f} s"),
        (
            "decode",
            f"{stats.num_new_tokens} new tokens, {stats.decode_seconds:.2f} s "
            f"(draft {stats.draft_seconds:.2f} s, verify {stats.verify_seconds:.2f} s)",
        ),
        (
            "rounds",
            f"{stats.num_rounds}, mean accepted length M {stats.mean_accepted_length:.2f}",
        ),
        ("drafted", f"{stats.num_drafted}, {_accepted(stats)}"),
        ("speed", f"{stats.tokens_per_second:.1f} tokens/s"),
        ("draft", plan),
        ("ended by", _ENDINGS[result.finish_reason]),
    )


@dataclass(frozen=True, slots=True)
class SpeedComparison:
    """The speeds of one request, with a draft and without."""

    drafted: "Result"
    vanilla: "Result"

    @property
    def speedup(self) -> float:
        """Tokens per second over those of vanilla; 0 where nothing was decoded."""
        base = self.vanilla.stats.tokens_per_second
        return self.drafted.stats.tokens_per_second / base if base else 0.0

    @property
    def is_identical(self) -> bool:
        """Whether both wrote the same tokens."""
        return self.drafted.token_ids == self.vanilla.token_ids

    def table(self) -> "Table":
        """Vanilla and the draft, side by side."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        table.add_column("vanilla", justify="right")
        table.add_column("with the draft", justify="right", style="bold")
        columns = zip(_rows(self.vanilla.stats), _rows(self.drafted.stats), strict=True)
        for (label, vanilla), (_, drafted) in columns:
            table.add_row(label, vanilla, drafted)
        table.add_section()
        table.add_row("speedup", "1.00x", f"{self.speedup:.2f}x")
        return table

    def verdict(self) -> list[str]:
        """Sentences: is the output the same, and was it worth it?"""
        return [f"output identical: {self._identity()}", self._gain()]

    def _identity(self) -> str:
        if self.is_identical:
            return f"yes, all {len(self.drafted.token_ids)} tokens"
        pairs = zip(self.drafted.token_ids, self.vanilla.token_ids, strict=False)
        shared = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
        where = "one is shorter" if shared is None else f"they part after {shared} tokens"
        return f"no, {where}: run `selfdraft check` to see whether it is a near-tie"

    def _gain(self) -> str:
        if self.speedup < 1 - _NOTICEABLE:
            return (
                f"slower than plain decoding on this model: {self.speedup:.2f}x; small models gain "
                "little from skipping, see docs"
            )
        if self.speedup <= 1 + _NOTICEABLE:
            return "as fast as plain decoding on this model"
        return f"{self.speedup:.2f} times as fast as plain decoding"


def _rows(stats: "Stats") -> list[tuple[str, str]]:
    has_draft = stats.num_drafted > 0
    return [
        ("new tokens", str(stats.num_new_tokens)),
        ("rounds", str(stats.num_rounds)),
        ("mean accepted length M", f"{stats.mean_accepted_length:.2f}"),
        ("drafted", str(stats.num_drafted) if has_draft else "-"),
        ("accepted", f"{stats.num_accepted} ({stats.acceptance_rate:.0%})" if has_draft else "-"),
        ("  of it siblings", str(stats.num_accepted_siblings) if has_draft else "-"),
        ("prefill", f"{stats.prefill_seconds:.2f} s"),
        ("decode", f"{stats.decode_seconds:.2f} s"),
        ("  of it draft", f"{stats.draft_seconds:.2f} s" if has_draft else "-"),
        ("  of it verify", f"{stats.verify_seconds:.2f} s"),
        ("tokens/s", f"{stats.tokens_per_second:.1f}"),
    ]


def _accepted(stats: "Stats") -> str:
    siblings = stats.num_accepted_siblings
    of_it = f" ({siblings} as siblings)" if siblings else ""
    return f"accepted {stats.num_accepted}{of_it}, acceptance rate {stats.acceptance_rate:.2f}"
