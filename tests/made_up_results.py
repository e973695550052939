"""A result folder as `bench run` leaves it, with made-up numbers: for pages and figures."""

import json
import random
from pathlib import Path
from typing import Any

from bench_doubles import measurement

from selfdraft.bench.report.cells import cells
from selfdraft.bench.run.measurement import Measurement
from selfdraft.bench.run.result_folder import ResultFolder

METHODS = {"transformers": 1.0, "transformers-lookup": 1.2, "off": 1.6, "swift": 1.1, "auto": 2.4}
"""Speed of each method, relative to the first."""

TASKS = {"spec-bench": ("writing", "qa", "translation"), "gsm8k": ("all",)}


def write_results(path: Path, factor: float = 1.0, wrong: str | None = None) -> dict[str, Any]:
    """Results in which `auto` is `factor` times as fast as in `METHODS`, and `wrong` is wrong."""
    folder = ResultFolder(path, manifest())
    folder.begin()
    for made_up in measurements(factor):
        folder.add(made_up)
    names = list(METHODS)
    summary = folder.manifest | {
        "ending": "complete",
        "contract": "L2: bit-identical logits with and without speculation",
        "num_measurements": len(folder.measurements),
        "num_compared": len(folder.measurements),
        "methods": {name: _method(name, is_wrong=name == wrong) for name in names},
        "layers": {"num_layers": 28, "eligible": list(range(1, 27))},
        "cells": cells(folder.measurements, names),
        "pass_costs": [
            {"plan": plan, "num_rows": rows, "context": 256, "seconds": seconds}
            for plan, rows, seconds in (
                *(("target", rows, 0.1 + 0.002 * rows) for rows in (1, 2, 4, 8, 16, 32)),
                ("swift", 1, 0.06),
            )
        ],
    }
    folder.write_summary(summary)
    return summary


def manifest() -> dict[str, Any]:
    machine = {
        "system": "Linux x86_64",
        "cpu": "A CPU",
        "cores": 2,
        "cpu_flags": ["avx2"],
        "memory_gib": 24.0,
    }
    return {
        "arguments": {"max_new_tokens": 64, "temperature": 0.0, "methods": list(METHODS)},
        "provenance": {
            "date": "2026-01-01T00:00:00+00:00",
            "command": ["selfdraft", "bench", "run", "a <model>"],
            "commit": None,
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "python": "3.11.2",
            "machine": machine,
            "threads": 2,
            "dtype": "bfloat16",
            "device": "cpu",
            "model": {"name": "a <model>", "fingerprint": "0" * 16},
        },
    }


def measurements(factor: float = 1.0) -> list[Measurement]:
    made_up = []
    noise = random.Random(0)
    prompts = [(task, c) for task, categories in TASKS.items() for c in categories for _ in "1234"]
    for index, (task, category) in enumerate(prompts):
        for method, speed in METHODS.items():
            speed *= 10 * noise.uniform(0.85, 1.15) * (factor if method == "auto" else 1)
            made_up.append(_made_up(task, index, category, method, 64 / speed))
    return made_up


def _made_up(task: str, index: int, category: str, method: str, seconds: float) -> Measurement:
    drafts = {"swift": 6, "auto": 8}.get(method, 0)
    ours = {
        "num_drafted": 10 * drafts,
        "num_accepted": 7 * drafts,
        "drafted_by_depth": [10] * drafts,
        "accepted_by_depth": [9 - depth for depth in range(drafts)],
        "prefill_seconds": 0.1 * seconds,
        "draft_seconds": 0.3 * seconds if drafts else 0.0,
        "verify_seconds": (0.5 if drafts else 0.85) * seconds,
        "search_seconds": 0.04 * seconds if method == "auto" else 0.0,
    }
    is_ours = method in ("off", "swift", "auto")
    return measurement(
        task=task,
        prompt_index=index,
        category=category,
        method=method,
        token_ids=tuple(range(64)),
        total_seconds=seconds,
        prefill_seconds=0.1 * seconds,
        decode_seconds=0.9 * seconds,
        num_decoded=64,
        num_rounds=16,
        timeline=tuple(((0.1 + 0.9 * i / 16) * seconds, 4 * i) for i in range(1, 17)),
        stats=ours if is_ours else {},
    )


def _method(name: str, *, is_wrong: bool) -> dict[str, Any]:
    divergence = {
        "task": "gsm8k",
        "prompt_index": 13,
        "repeat": 0,
        "position": 4,
        "reference_token": 1,
        "other_token": 2,
        "margin": 3.5,
        "is_near_tie": False,
    }
    identity = {
        "reference": "off",
        "num_outputs": 16,
        "num_same": 15 if is_wrong else 16,
        "num_real_divergences": int(is_wrong),
        "divergences": [divergence] if is_wrong else [],
    }
    skip_set = {"skip_set": {"attention": [3, 9, 12], "mlp": [5, 9, 20]}}
    is_reference = name in ("off", "transformers")
    return {
        "family": "selfdraft",
        "is_lossless": None if is_reference else not is_wrong,
        "identical_to": {} if is_reference else {"off": identity},
        "score": {"gsm8k": {"num_right": 3, "num_scored": 4}},
    } | (skip_set if name == "swift" else {})


def write_trace(path: Path) -> Path:
    noise = random.Random(1)
    events: list[dict[str, Any]] = []
    for step in range(60):
        if step in (0, 30):
            events.append({"event": "window", "seconds": step, "num_tokens": 32})
        matchness = 1 - 0.6 * noise.random()
        source = noise.choice(["random", "bayes", "swap"])
        events.append({"event": "proposal", "source": source, "matchness": matchness})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path
