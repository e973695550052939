"""Roofline: the time of a pass is that of its bytes or of its arithmetic, whichever is longer.

(Williams et al. 2009, "Roofline: an insightful visual performance model".) A pass reads the weights
once, whatever its rows, and the keys and values of every sequence; it multiplies each weight with
each row. What it costs besides, such as calls and elementwise work, is a number per layer.

A GPU reads while it multiplies. The cores of a CPU do one after the other, so there the two times
add up, and attention is computed row by row (contract L2), so every row reads the cache anew.
"""

from dataclasses import dataclass

from selfdraft.bench.model_shape import ModelShape
from selfdraft.config import require

_KV_BYTES = 2  # keys and values are kept in 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What computes."""

    name: str
    bytes_per_second: float
    flops_per_second: float
    """Multiply-adds count as two."""
    seconds_per_layer: float = 0.0
    """Of a pass, besides bytes and arithmetic."""
    overlaps: bool = True
    """Whether bytes are read during arithmetic; a CPU does not."""

    def __post_init__(self) -> None:
        require(self.bytes_per_second > 0, "bandwidth is 0: give the GB/s that can be read")
        require(self.flops_per_second > 0, "tflops is 0: give the TFLOP/s of matrix products")
        require(self.seconds_per_layer >= 0, "overhead is negative: give 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassKind:
    """A pass of the target, or of the target made cheaper."""

    skip_ratio: float = 0.0
    """Share of the sublayers between the first and the last layer."""
    weight_bits: int = 16


TARGET = PassKind()

DEVICES = {
    device.name: device
    for device in (
        Device(name="a100", bytes_per_second=2.0e12, flops_per_second=312e12),
        Device(name="h100", bytes_per_second=3.35e12, flops_per_second=989e12),
        Device(name="rtx-4090", bytes_per_second=1.01e12, flops_per_second=165e12),
    )
}
"""Peaks that vendors state for 16 bits; what programs reach is less."""


def pass_seconds(
    shape: ModelShape,
    device: Device,
    kind: PassKind = TARGET,
    *,
    num_rows: int = 1,
    context: int = 256,
    batch: int = 1,
) -> float:
    """Seconds of one pass of `num_rows` new tokens for each of `batch` sequences."""
    # The first and the last layer are never skipped.
    share_skipped = kind.skip_ratio * max(0, shape.num_layers - 2) / shape.num_layers
    num_layers = shape.num_layers * (1 - share_skipped)
    per_layer = shape.attention_parameters + shape.mlp_parameters
    parameters = num_layers * per_layer + shape.head_parameters
    kv_reads = batch if device.overlaps else batch * num_rows
    kv_values = num_layers * shape.kv_values_per_token * context * kv_reads
    num_bytes = parameters * kind.weight_bits / 8 + kv_values * _KV_BYTES
    scores = num_layers * shape.num_heads * shape.head_dim * context
    flops = batch * num_rows * (2 * parameters + 4 * scores)
    parts = (num_bytes / device.bytes_per_second, flops / device.flops_per_second)
    busy = max(parts) if device.overlaps else sum(parts)
    return busy + num_layers * device.seconds_per_layer
