"""The summary of a run: cells, identity with the references, scores, and what it was all made of.

The fields are documented in docs/bench-format.md.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from selfdraft.bench.methods.method import PLAIN, VANILLA, EngineMethod, Family, Method, plan_of
from selfdraft.bench.methods.peer import PeerMethod
from selfdraft.bench.report.cells import cells, complete_only
from selfdraft.bench.report.identity import REFERENCES, Identity, Referee
from selfdraft.bench.run.contract import Contract
from selfdraft.bench.run.measurement import Measurement
from selfdraft.bench.run.result_folder import ResultFolder
from selfdraft.bench.run.runner import Ending, Work
from selfdraft.bench.tasks.scoring import CodeAnswer
from selfdraft.engine import Engine

# A peer rounds in its own way: it is compared with both references, and judged by none.
_JUDGES: dict[Family, str] = {"selfdraft": VANILLA, "transformers": PLAIN}


def summarise(
    folder: ResultFolder,
    work: Sequence[Work],
    methods: Sequence[Method],
    engine: Engine,
    *,
    ending: Ending,
    may_run_code: bool = False,
) -> dict[str, Any]:
    """What the measurements of `folder` say, as one JSON object."""
    names = [method.name for method in methods]
    measured = complete_only(folder.measurements, names)
    referee = Referee(engine, {(w.prompt.task, w.prompt.index): w.request for w in work})
    contract = Contract.for_engine(engine)
    return folder.manifest | {
        "ending": ending,
        "contract": contract.level,
        "num_measurements": len(folder.measurements),
        "num_compared": len(measured),
        "methods": {
            method.name: {"family": method.family}
            | _identity(method, measured, referee, promises_bits=contract.promises_bits)
            | _description(method)
            | {"score": _score(method, measured, work, engine, may_run_code=may_run_code)}
            for method in methods
        },
        "layers": {
            "num_layers": engine.target.layers.num_layers,
            "eligible": list(engine.target.layers.eligible),
        },
        "cells": cells(measured, names),
    }


def _identity(
    method: Method, measured: Sequence[Measurement], referee: Referee, *, promises_bits: bool
) -> dict[str, Any]:
    """Comparisons with both references, and the verdict against the method's own."""
    own = [m for m in measured if m.method == method.name]
    compared: dict[str, Identity] = {}
    for name in REFERENCES:
        references = {m.prompt_key: m for m in measured if m.method == name}
        if own and references and name != method.name:
            compared[name] = referee.compare(own, references)
    reference = _JUDGES.get(method.family)
    verdict = None
    if reference is not None and reference in compared:
        identity = compared[reference]
        is_strict = method.family == "selfdraft" and promises_bits
        num_wrong = len(identity.divergences) if is_strict else identity.num_real_divergences
        verdict = num_wrong == 0
    return {
        "is_lossless": verdict,
        "identical_to": {
            name: asdict(identity) | {"num_real_divergences": identity.num_real_divergences}
            for name, identity in compared.items()
        },
    }


def _description(method: Method) -> dict[str, Any]:
    if isinstance(method, PeerMethod):
        return {"peer": method.title}
    if not isinstance(method, EngineMethod):
        return {}
    plan = plan_of(method.engine, method.draft)
    if plan is None:
        return {}
    return {"skip_set": asdict(plan.skip_set), "weight_bits": plan.weight_bits}


def _score(
    method: Method,
    measured: Sequence[Measurement],
    work: Sequence[Work],
    engine: Engine,
    *,
    may_run_code: bool,
) -> dict[str, Any] | None:
    """Right answers by task; code is judged only where it may be run."""
    if engine.tokenizer is None:
        return None
    prompts = {(w.prompt.task, w.prompt.index): w.prompt for w in work}
    verdicts: dict[str, list[bool]] = {}
    for m in measured:
        prompt = prompts.get((m.task, m.prompt_index))
        if m.method != method.name or m.repeat > 0 or prompt is None or prompt.answer is None:
            continue
        if isinstance(prompt.answer, CodeAnswer) and not may_run_code:
            continue
        text = engine.tokenizer.decode(list(m.token_ids), skip_special_tokens=True)
        verdicts.setdefault(m.task, []).append(prompt.answer.is_right(str(text)))
    return {
        task: {"num_right": sum(right), "num_scored": len(right)}
        for task, right in verdicts.items()
    } or None
