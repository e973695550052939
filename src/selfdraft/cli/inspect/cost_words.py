"""Measured costs in words: a table, and a plain sentence on each thing that `auto` decides."""

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfdraft.cli.inspect.cost_report import CostReport, DraftCost

_WIDTH = 80
_GB = 1e9


def cost_lines(report: "CostReport") -> Iterator[str]:
    """The report as lines of at most 80 characters."""
    threads = "" if report.num_threads is None else f", {report.num_threads} CPU threads"
    yield f"measured behind {report.context} tokens{threads}:"
    yield ""
    yield f"{'pass':<24}{'ms':>9}{'of a plain step':>18}"
    for num_rows, seconds in report.check_seconds.items():
        name = "plain step" if num_rows == 1 else f"check of {num_rows} tokens"
        yield _row(name, seconds, report)
    for draft in report.drafts:
        yield _row(f"step, {draft.name}", draft.step_seconds, report)
    yield ""
    for sentence in (*_ceilings(report), "", *_choices(report)):
        yield from wrap(sentence, _WIDTH) or [""]


def _row(name: str, seconds: float, report: "CostReport") -> str:
    return f"{name:<24}{1e3 * seconds:>9.2f}{seconds / report.plain_seconds:>18.2f}"


def _ceilings(report: "CostReport") -> Iterator[str]:
    """What limits a plain step, and each draft."""
    reads = (
        f"A plain step reads {report.step_bytes / _GB:.2f} GB of weights, which makes "
        f"{report.bytes_per_second / _GB:.1f} GB/s"
    )
    if report.read_bandwidth is None or report.share_of_bandwidth is None:
        yield (
            f"{reads}; what this machine can read is unknown, as no free memory to measure it "
            "is known of."
        )
    else:
        yield (
            f"{reads}: {report.share_of_bandwidth:.0%} of the {report.read_bandwidth / _GB:.1f} "
            "GB/s that torch reads here."
        )
    for draft in report.drafts:
        speeds = " and ".join(
            f"{speed:.2f}x if {share:.0%} of its tokens are right"
            for share, speed in draft.ceilings.items()
        )
        yield f"{draft.name}: by itself at most {speeds}{_remembered(draft)}."


def _remembered(draft: "DraftCost") -> str:
    if draft.remembered_acceptance is None or draft.remembered_ceiling is None:
        return "; how many are right is seen while writing"
    return (
        f"; a search saw {draft.remembered_acceptance:.0%} of them right: at most "
        f"{draft.remembered_ceiling:.2f}x, and {draft.predicted_speedup:.2f}x is predicted"
    )


def _choices(report: "CostReport") -> Iterator[str]:
    """What `auto` does, and why."""
    if report.auto_plan is None:
        yield (
            "auto begins without a draft of the model, as none is known to pay, and looks for one "
            "while it writes."
        )
    for draft in report.drafts:
        is_chosen = draft.name == report.auto_draft
        yield f"{'auto drafts with the ' if is_chosen else ''}{draft.name}: {verdict(draft)}."
    if report.why_no_copy is not None:
        yield f"no 4-bit copy of this model, because {report.why_no_copy}."
    yield _on_free_drafts(report)


def verdict(draft: "DraftCost") -> str:
    """Whether the draft pays, and from where on."""
    step = f"a step costs {draft.relative_cost:.2f} of a plain step"
    if draft.break_even is None:
        return f"{step}, so it never pays here"
    acceptance = draft.remembered_acceptance
    known = ""
    if acceptance is not None:
        is_enough = acceptance > draft.break_even
        known = f"; {acceptance:.0%} were seen, which is {'enough' if is_enough else 'too few'}"
    return f"{step}, so it pays from {draft.break_even:.0%} acceptance on{known}"


def _on_free_drafts(report: "CostReport") -> str:
    """Copied text and runners-up cost nothing but their rows in a check."""
    most = max(report.check_seconds)
    second = report.check_seconds[2] / report.plain_seconds - 1
    each = (report.check_seconds[most] / report.plain_seconds - 1) / (most - 1)
    return (
        "tokens copied from the text, and runners-up, cost only their place in a check: "
        f"{second:.0%} of a plain step for the first, {each:.0%} for each of {most - 1}; auto adds "
        "those that are likelier to be right than that."
    )
