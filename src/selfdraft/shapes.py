"""The tensors that cross module borders, each with its shape and meaning.

Names of axes: `tokens` in a sequence, `nodes` of a token tree, `vocab` entries, key/value `rows`.
Tests check the shapes at run time (jaxtyping with beartype); in production they are documentation.
"""

from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "nodes vocab"]
"""What a model said after each node, as it said it: no temperature, no penalty, no filter."""

VocabLogits = Float[Tensor, " vocab"]
"""One row of `Logits`."""

WarpedLogits = Float[Tensor, "nodes vocab"]
"""Logits after every logits processor, in float32; a token that must not be chosen has -inf."""

Noise = Float[Tensor, " vocab"]
"""Standard Gumbel noise for one position; all zeros when decoding greedily."""

Choices = Int[Tensor, " nodes"]
"""A model's own next token after each node."""

HiddenStates = Float[Tensor, "1 rows width"]
"""The residual stream between two decoder layers."""

Keys = Float[Tensor, "1 kv_heads rows key_dim"]
Values = Float[Tensor, "1 kv_heads rows value_dim"]
NewKeys = Float[Tensor, "1 kv_heads new_rows key_dim"]
NewValues = Float[Tensor, "1 kv_heads new_rows value_dim"]
Queries = Float[Tensor, "1 heads new_rows key_dim"]
