"""The report page: one HTML file that needs nothing else, with every figure inside."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from selfdraft.bench.report.comparison import Change
from selfdraft.bench.report.figure_style import Drawing

Summary = dict[str, Any]

_STYLE = """
body { font: 16px/1.5 Georgia, 'DejaVu Serif', serif; color: #1a1a1a; background: white;
  max-width: 60rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; } h2 { font-size: 1.25rem; margin-top: 2.4rem; }
table { border-collapse: collapse; font: 14px/1.4 'DejaVu Sans', Arial, sans-serif; }
.wide { overflow-x: auto; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #333; font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; }
tr.section td { padding-top: 0.9rem; font-weight: 600; border-bottom: 1px solid #333; }
figure { margin: 1.2rem 0 2rem; } figure img { max-width: 100%; height: auto; }
figcaption, .note { font-size: 0.9rem; color: #444; max-width: 46rem; }
.wrong { font-weight: 700; border: 2px solid #1a1a1a; padding: 0.4rem 0.8rem; }
code, pre { font: 13px/1.45 'DejaVu Sans Mono', monospace; }
pre { background: #f4f4f4; padding: 0.7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""

_BASELINES = ("transformers", "off")


def page(summaries: Sequence[tuple[str, Summary, Sequence[Drawing]]], more: Sequence[str]) -> str:
    """The page of one or more results: (title, summary, figures) each; `more` are sections."""
    body = [*more]
    for title, summary, drawings in summaries:
        body.append(_result_section(title, summary, drawings, is_only=len(summaries) == 1))
    heading = " and ".join(title for title, _, _ in summaries)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>selfdraft bench: {escape(heading)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>selfdraft bench</h1>\n{''.join(body)}</body>\n</html>\n"
    )


def change_section(
    found: Sequence[Change], differing: Sequence[str], drawing: Drawing | None
) -> str:
    """The section about two folders side by side."""
    parts = ["<h2>Before and after</h2>"]
    if not found:
        parts.append("<p>The folders share no method besides a baseline: nothing to compare.</p>")
    if differing:
        items = "".join(f"<li>{escape(line)}</li>" for line in differing)
        parts.append(f"<p>Besides the code, this differs:</p><ul class='note'>{items}</ul>")
    else:
        parts.append("<p>Arguments, versions and machine are the same.</p>")
    if drawing is not None:
        parts.append(_figure(drawing))
    if found:
        rows = [
            (c.task, c.method, f"{c.before:.2f}", f"{c.after:.2f}", f"{c.ratio:.2f}", c.verdict)
            for c in found
        ]
        head = ("task", "method", "before", "after", "ratio", f"over {found[0].baseline}")
        parts.append(_table(head, rows))
    return "\n".join(parts)


def _result_section(
    title: str, summary: Summary, drawings: Sequence[Drawing], *, is_only: bool
) -> str:
    origin = summary["provenance"]
    machine = origin["machine"]
    conditions = (
        f"{origin['model']['name']}, {origin['dtype']} on "
        f"{machine.get('gpu') or machine['cpu']}, threads: {origin['threads']}; "
        f"{summary['arguments']['max_new_tokens']} new tokens at most, temperature "
        f"{summary['arguments']['temperature']:g}; {origin['date'][:10]}"
    )
    parts = [f"<h2>{escape(title)}</h2>", f"<p>{escape(conditions)}</p>"]
    if summary["ending"] != "complete":
        parts.append(f"<p class='wrong'>This run is not complete: {escape(summary['ending'])}.</p>")
    parts += _verdicts(summary)
    parts.append(_speed_table(summary))
    parts += [_figure(drawing) for drawing in drawings]
    parts.append("<h2>The text</h2>" if is_only else "<h3>The text</h3>")
    parts.append(f"<p>Contract on this device: {escape(summary['contract'])}.</p>")
    parts.append(_identity_table(summary))
    parts.append(_divergence_list(summary))
    parts.append("<h2>Provenance</h2>" if is_only else "<h3>Provenance</h3>")
    parts.append(_provenance(summary))
    return "\n".join(parts)


def _verdicts(summary: Summary) -> Iterable[str]:
    for name, method in summary["methods"].items():
        if method["is_lossless"] is False:
            yield (
                f"<p class='wrong'>{escape(name)} is not lossless: it wrote other tokens than its "
                "reference where rounding does not explain it. Its speed means nothing.</p>"
            )


def _speed_table(summary: Summary) -> str:
    cells = [c for c in summary["cells"] if c["category"] is None]
    tasks = [*dict.fromkeys(c["task"] for c in cells if c["task"]), None]
    if len(tasks) == 2:
        tasks = tasks[:1]
    baselines = [b for b in _BASELINES if b in summary["methods"]]
    head = ("method", "tok/s", "decode tok/s", *(f"over {b}" for b in baselines), "M", "accepted")
    head = (*head, "extra memory")
    rows: list[tuple[str, ...]] = []
    for task in tasks:
        own = [c for c in cells if c["task"] == task]
        if own:
            rows.append((f"{task or 'all tasks'}, {own[0]['num_prompts']} prompts",))
        rows += [_speed_row(c, baselines) for c in own]
    return _table(head, rows)


def _speed_row(cell: dict[str, Any], baselines: Sequence[str]) -> tuple[str, ...]:
    extra = cell["extra_bytes"]
    return (
        cell["method"],
        f"{cell['total_tokens_per_second']:.1f}",
        _number(cell["decode_tokens_per_second"], ".1f"),
        *(_ratio((cell["speedups"].get(b) or {}).get("total")) for b in baselines),
        _number(cell["mean_accepted_length"], ".2f"),
        _number(cell["acceptance_rate"], ".0%"),
        "-" if extra is None else f"{extra / 1e6:.0f} MB",
    )


def _ratio(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return "-"
    if ratio["low"] is None:
        return f"{ratio['value']:.2f}"
    return f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _identity_table(summary: Summary) -> str:
    rows = [
        (
            name,
            f"{identity['num_same']} of {identity['num_outputs']} as {reference}",
            str(len(identity["divergences"]) - identity["num_real_divergences"]),
            str(identity["num_real_divergences"]),
        )
        for name, method in summary["methods"].items()
        for reference, identity in method["identical_to"].items()
    ]
    return _table(("method", "same outputs", "near-ties", "other divergences"), rows)


def _divergence_list(summary: Summary) -> str:
    lines = [
        f"{name} against {reference}: {d['task']} {d['prompt_index']}, after {d['position']} "
        f"tokens, {d['reference_token']} against {d['other_token']}, margin "
        f"{_number(d['margin'], '.4f')}{'' if d['is_near_tie'] else ' (no near-tie)'}"
        for name, method in summary["methods"].items()
        for reference, identity in method["identical_to"].items()
        for d in identity["divergences"]
    ]
    if not lines:
        return ""
    inside = "\n".join(lines)
    return (
        f"<details><summary>{len(lines)} divergences</summary><pre>{escape(inside)}</pre></details>"
    )


def _provenance(summary: Summary) -> str:
    origin = summary["provenance"]
    machine = origin["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in origin["versions"].items() if v)
    lines = [
        " ".join(origin["command"]),
        f"commit {origin['commit'] or 'unknown'}",
        f"{versions}, Python {origin['python']}",
        f"{machine['system']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB",
        f"instruction sets: {' '.join(machine['cpu_flags']) or 'unknown'}",
        f"{machine.get('gpu', 'no GPU')}, {origin['device']}, {origin['dtype']}, "
        f"{origin['threads']} threads",
        f"model {origin['model']['name']}, fingerprint {origin['model']['fingerprint']}",
        f"{origin['date']}, {summary['num_measurements']} measurements",
    ]
    inside = "\n".join(lines)
    return f"<pre>{escape(inside)}</pre>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of one cell are the titles of sections."""
    lines = ["<div class='wide'><table><tr>", *(f"<th>{escape(h)}</th>" for h in head), "</tr>"]
    for row in rows:
        if len(row) == 1:
            lines.append(
                f"<tr class='section'><td colspan='{len(head)}'>{escape(row[0])}</td></tr>"
            )
        else:
            lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "".join([*lines, "</table></div>"])


def _figure(drawing: Drawing) -> str:
    return (
        f"<figure><h2>{escape(drawing.title)}</h2><img alt='{escape(drawing.title)}' "
        f"src='{drawing.data_uri}'><figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
