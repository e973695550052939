"""A model's shape: what its weights and its cache weigh, without any weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfdraft.config import require
from selfdraft.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder of equal layers with gated MLPs, as most language models are.

    Counts are of parameters; norms and biases are left out, being far below a per cent.
    """

    name: str
    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_width: int
    vocab_size: int

    def __post_init__(self) -> None:
        for name in ("num_layers", "width", "num_heads", "num_kv_heads", "head_dim", "mlp_width"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}: give 1 or more")
        require(self.vocab_size > 0, f"vocab_size is {self.vocab_size}: give 1 or more")

    @property
    def attention_parameters(self) -> int:
        """Of one layer's attention: queries, keys, values and the way out."""
        return self.width * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Of one layer's MLP: gate, up and down."""
        return 3 * self.width * self.mlp_width

    @property
    def head_parameters(self) -> int:
        """Of the language-modelling head, which no draft skips."""
        return self.width * self.vocab_size

    @property
    def num_parameters(self) -> int:
        """All that a pass reads."""
        layers = self.num_layers * (self.attention_parameters + self.mlp_parameters)
        return layers + self.head_parameters

    @property
    def kv_values_per_token(self) -> int:
        """Keys and values of one token in one layer."""
        return 2 * self.num_kv_heads * self.head_dim


LLAMA_SIZES = tuple(
    ModelShape(
        name=name,
        num_layers=layers,
        width=width,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=width // heads,
        mlp_width=mlp,
        vocab_size=vocab,
    )
    for name, layers, width, heads, kv_heads, mlp, vocab in (
        ("llama 1B", 16, 2048, 32, 8, 8192, 128256),
        ("llama 3B", 28, 3072, 24, 8, 8192, 128256),
        ("llama 8B", 32, 4096, 32, 8, 14336, 128256),
        ("llama 13B", 40, 5120, 40, 40, 13824, 32000),
        ("llama 70B", 80, 8192, 64, 8, 28672, 128256),
    )
)
"""Shapes of one family in five sizes, to show what size does."""


def shape_of(path: Path) -> ModelShape:
    """The shape that a `config.json`, or a folder with one, describes.

    Raises:
        ConfigError: there is no such file, or it lacks a number.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} is no model config ({error}): give a folder with a config.json, or numbers"
        ) from error
    config: dict[str, Any] = document.get("text_config", document)
    try:
        num_heads = int(config["num_attention_heads"])
        width = int(config["hidden_size"])
        return ModelShape(
            name=path.resolve().parent.name if path.is_file() else path.resolve().name,
            num_layers=int(config["num_hidden_layers"]),
            width=width,
            num_heads=num_heads,
            num_kv_heads=int(config.get("num_key_value_heads") or num_heads),
            head_dim=int(config.get("head_dim") or width // num_heads),
            mlp_width=int(config["intermediate_size"]),
            vocab_size=int(config["vocab_size"]),
        )
    except KeyError as error:
        raise ConfigError(
            f"{file} does not say {error}: give the shape as numbers (--layers, --width, ...)"
        ) from error
