"""What is certified of a model when it is loaded, and how it is written down."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfdraft.model.structure.stubs import Bypass, PassResidual, Returns, Silence, Stub
from selfdraft.model.structure.sublayers import DecoderLayer, DecoderLayers, Sublayer

# Logits that are kept of each row. One alone depends on every layer.
_NUM_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class LogitsSample:
    """Some of a model's logits after a few fixed tokens, and the largest of all of them."""

    rows: tuple[tuple[float, ...], ...]
    largest: float

    @classmethod
    def of(cls, logits: Tensor) -> "LogitsSample":
        """A sample of `logits`, of shape `[rows, vocabulary]`."""
        rows = tuple(tuple(row) for row in _columns(logits).tolist())
        return cls(rows, float(logits.abs().max()))

    def difference(self, logits: Tensor) -> float:
        """The largest difference of `logits` from the sample; not a number if one is not."""
        return float((_columns(logits) - torch.tensor(self.rows, dtype=torch.float64)).abs().max())


def _columns(logits: Tensor) -> Tensor:
    return logits[:, :: -(-logits.shape[1] // _NUM_COLUMNS)].double().cpu()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What loading a model finds out by running it."""

    layers: DecoderLayers
    supports_trees: bool
    """Whether a row may follow any other row: the model's attention goes through ours."""
    vocab_size: int
    """Entries of a row of logits."""
    logits: LogitsSample
    """What a model that is taken for this one must give again."""

    def to_document(self) -> dict[str, object]:
        """Plain data, ready for JSON."""
        return {
            "supports_trees": self.supports_trees,
            "vocab_size": self.vocab_size,
            "list_name": self.layers.list_name,
            "layers": [_write_layer(layer) for layer in self.layers.layers],
            "logits": [list(row) for row in self.logits.rows],
            "largest_logit": self.logits.largest,
        }

    @classmethod
    def from_document(cls, document: Any) -> "Certificate":
        """What `to_document` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it did not write this.
        """
        layers = tuple(_read_layer(layer) for layer in document["layers"])
        return cls(
            layers=DecoderLayers(document["list_name"], layers),
            supports_trees=document["supports_trees"],
            vocab_size=document["vocab_size"],
            logits=LogitsSample(
                tuple(tuple(row) for row in document["logits"]), document["largest_logit"]
            ),
        )


def _write_layer(layer: DecoderLayer) -> dict[str, object]:
    return {
        "tuple_length": layer.returns.tuple_length,
        "attention_name": layer.attention_name,
        "mlp_names": list(layer.mlp_names),
        "attention": _write_sublayer(layer.attention),
        "mlp": _write_sublayer(layer.mlp),
        "is_skippable_whole": layer.is_skippable_whole,
        "reason": layer.reason,
    }


def _read_layer(document: Any) -> DecoderLayer:
    return DecoderLayer(
        returns=Returns(document["tuple_length"]),
        attention_name=document["attention_name"],
        mlp_names=tuple(document["mlp_names"]),
        attention=_read_sublayer(document["attention"]),
        mlp=_read_sublayer(document["mlp"]),
        is_skippable_whole=document["is_skippable_whole"],
        reason=document["reason"],
    )


def _write_sublayer(sublayer: Sublayer | None) -> dict[str, object] | None:
    if sublayer is None:
        return None
    return {name: _write_stub(stub) for name, stub in sublayer.stubs.items()}


def _read_sublayer(document: Any) -> Sublayer | None:
    if document is None:
        return None
    return Sublayer({name: _read_stub(stub) for name, stub in document.items()})


def _write_stub(stub: Stub) -> dict[str, object]:
    assert isinstance(stub, Bypass | Silence | PassResidual), "discovery makes no others"
    kind: dict[str, object] = {"stub": type(stub).__name__}
    if isinstance(stub, Silence):
        kind["width"] = stub.width
    if isinstance(stub, PassResidual):
        kind["argument"] = stub.argument
    return kind | {"tuple_length": stub.returns.tuple_length}


def _read_stub(document: Any) -> Stub:
    returns = Returns(document["tuple_length"])
    if document["stub"] == "Bypass":
        return Bypass(returns)
    if document["stub"] == "Silence":
        return Silence(document["width"], returns)
    if document["stub"] == "PassResidual":
        return PassResidual(document["argument"], returns)
    raise ValueError(f"no stub is called {document['stub']!r}")
