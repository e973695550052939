"""Is the roofline right? Its passes against measured ones, on this machine with a real model.

The device is measured by the model's own head: a product of one row gives the bandwidth, one of
many rows the arithmetic. What a layer costs besides is taken from one pass, the plain step at the
shortest context; that pass is right by construction, and every other one is a prediction.
"""

import time
from dataclasses import dataclass, replace

import torch

from selfdraft.bench.model_shape import ModelShape
from selfdraft.bench.roofline import Device, PassKind, pass_seconds
from selfdraft.engine import Engine
from selfdraft.model.draft_plan import DraftPlan
from selfdraft.pass_costs import TARGET, PassCost, measure_passes

_CONTEXTS = (128, 512)
_SKIP_RATIOS = (0.2, 0.45)
_MANY_ROWS = 256
_NUM_REPEATS = 9


@dataclass(frozen=True, slots=True)
class CheckedPass:
    """One pass, measured and predicted."""

    plan: str
    num_rows: int
    context: int
    measured_seconds: float
    predicted_seconds: float
    is_calibration: bool
    """Whether the model was fitted to this one."""

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_seconds / self.measured_seconds - 1


def check_passes(engine: Engine, shape: ModelShape) -> tuple[Device, list[CheckedPass]]:
    """Measure this machine and passes of this model on it, and predict the passes."""
    drafts = {
        f"skip {ratio:.0%}": ratio
        for ratio in _SKIP_RATIOS
        if engine.target.uniform_skip_set(ratio).num_skipped
    }
    views = {
        name: engine.target.draft_view(DraftPlan(engine.target.uniform_skip_set(ratio)))
        for name, ratio in drafts.items()
    }
    costs = [cost for c in _CONTEXTS for cost in measure_passes(engine, views, context=c)]
    device = measure_device(engine, shape)
    first = next(c for c in costs if (c.plan, c.num_rows) == (TARGET, 1))
    bare = pass_seconds(shape, device, context=first.context)
    rest = max(0.0, first.seconds - bare) / shape.num_layers
    device = replace(device, seconds_per_layer=rest)
    return device, [
        _checked(cost, shape, device, drafts, is_calibration=cost is first) for cost in costs
    ]


def measure_device(engine: Engine, shape: ModelShape) -> Device:
    """Bandwidth and arithmetic that the engine's own head reaches."""
    head = engine.target.model.get_output_embeddings()
    assert head is not None, "a target has a head"
    dtype, device = engine.target.dtype, engine.target.device

    @torch.inference_mode()
    def seconds(num_rows: int) -> float:
        hidden = torch.ones(1, num_rows, shape.width, dtype=dtype, device=device)
        taken = []
        for _ in range(_NUM_REPEATS):
            start = time.perf_counter()
            float(head(hidden).flatten()[0])  # reading a value waits for the device
            taken.append(time.perf_counter() - start)
        return sorted(taken)[_NUM_REPEATS // 2]

    num_bytes = shape.head_parameters * dtype.itemsize
    flops = 2 * shape.head_parameters * _MANY_ROWS
    return Device(
        name="this machine",
        bytes_per_second=num_bytes / seconds(2),  # as the engine decodes: never a single row
        flops_per_second=flops / seconds(_MANY_ROWS),
        overlaps=device.type != "cpu",
    )


def _checked(
    cost: PassCost,
    shape: ModelShape,
    device: Device,
    drafts: dict[str, float],
    *,
    is_calibration: bool,
) -> CheckedPass:
    kind = PassKind(skip_ratio=drafts.get(cost.plan, 0.0))
    predicted = pass_seconds(shape, device, kind, num_rows=cost.num_rows, context=cost.context)
    return CheckedPass(
        cost.plan, cost.num_rows, cost.context, cost.seconds, predicted, is_calibration
    )
