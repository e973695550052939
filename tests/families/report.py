"""docs/models.md from the tables in `families.py`: `python tests/families/report.py` writes it.

The tests of this folder hold the code to the tables, and the page to this.
"""

from collections.abc import Sequence
from pathlib import Path

from families import FAMILIES, REFUSED, Family, Refused

PAGE = Path(__file__).parents[2] / "docs" / "models.md"

_INTRODUCTION = """\
# Models

selfdraft learns a model's structure from the model, so there is no list of supported names in its
code, and a family that is missing here may well work: try `selfdraft inspect MODEL`. What cannot
be decoded without risk is refused at load, with the reason.

This page is the list of what is *tested*, on tiny random models of each family: greedy text equal
to transformers' `generate`, rollback equal to a fresh prefill, sampled text equal with and without
a draft, and bits where they are promised. `python tests/families/report.py` writes it.

Models loaded in a special way are tested too. Weights that accelerate offloads to memory or disk
(`device_map`, `cpu_offload`, `disk_offload`) change nothing. Quantised weights work, without a
promise about bits. Only models whose activations are quantised over a whole pass, as torch's
`quantize_dynamic` does it, are refused: there a token's logits depend on the tokens beside it.

- **Skippable**: what a draft may skip of every layer but the first and the last. *Each sublayer*:
  attention and MLP one by one. *Whole layers*: only both together.
- **Token trees**: whether a draft may be a tree. Where it may not, selfdraft drafts chains by
  itself.
- **Same bits**: whether bfloat16 logits on a CPU are bit-identical with and without a draft.
  Families without it are token-identical in float32; in bfloat16 they may differ at near-ties.
"""


def page() -> str:
    """The page."""
    decoded = _table(
        ("family", "class", "skippable", "token trees", "same bits", "notes"),
        [_decoded_row(family) for family in sorted(FAMILIES, key=lambda family: family.name)],
    )
    refused = _table(
        ("family", "class", "reason"),
        [_refused_row(family) for family in sorted(REFUSED, key=lambda f: f.model_type)],
    )
    return (
        f"{_INTRODUCTION}\n## Decoded: {len(FAMILIES)}\n\n{decoded}\n"
        f"## Refused: {len(REFUSED)}\n\n"
        f"Use `model.generate()` of transformers for these.\n\n{refused}"
    )


def _decoded_row(family: Family) -> tuple[str, ...]:
    return (
        family.name,
        f"`{family.class_name}`",
        "each sublayer" if family.is_split else "whole layers",
        "yes" if family.has_trees else "chains only",
        "yes" if family.has_trees and not family.has_experts else "no",
        family.note,
    )


def _refused_row(family: Refused) -> tuple[str, ...]:
    return family.model_type, f"`{family.class_name}`", family.reason.replace(" .* ", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
