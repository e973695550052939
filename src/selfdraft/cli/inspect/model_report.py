"""What there is to know about a model before it drafts for itself."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from selfdraft.model.cache.kv_cache import KEY_BLOCK
from selfdraft.model.weights.copy_cache import copies_bytes, copies_folder, copies_limit
from selfdraft.model.weights.quantisation import num_bytes, weights_of
from selfdraft.search.store import DraftStore, StoredDraft

if TYPE_CHECKING:
    from torch import nn

    from selfdraft.engine import Engine


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Where the bytes of a model are; weights used in two places are counted once."""

    attention: int
    mlp: int
    embeddings_and_head: int
    other: int
    """Norms, above all."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.attention + self.mlp + self.embeddings_and_head + self.other


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCopies:
    """Copies of weights in few bits that are on disk, so that no load makes them anew."""

    folder: str
    own_bytes: int
    """Of this model's copy in 4 bits; 0: it is not kept."""
    total_bytes: int
    """Of all models' copies."""
    limit_bytes: int
    """Most that they may have (SELFDRAFT_COPY_CACHE); 0: none are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """A model as `selfdraft inspect` shows it."""

    model: str
    architecture: str
    num_parameters: int
    weight_bytes: WeightBytes
    dtype: str
    device: str
    num_layers: int
    vocab_size: int
    max_context: int | None
    has_tied_embeddings: bool
    kv_bytes_per_token: int
    eligible_layers: tuple[int, ...]
    """Layers whose attention and MLP may be skipped."""
    reasons: dict[int, str]
    """For every other layer, why not."""
    rounded_copy_bytes: int
    """Of the copy of the weights in 4 bits that `auto` drafts with; 0: there can be none."""
    kept_copies: KeptCopies
    remembered: tuple[StoredDraft, ...]
    """Drafts that a search found, the best first: `auto` begins with the first."""

    def as_dict(self) -> dict[str, object]:
        """The report as plain data, ready for JSON."""
        return asdict(self)


def report_on(engine: "Engine", name: str) -> ModelReport:
    """Measure and describe the model of `engine`."""
    target, model = engine.target, engine.target.model
    return ModelReport(
        model=name,
        architecture=type(model).__name__,
        num_parameters=sum(weight.numel() for weight in weights_of(model)),
        weight_bytes=_weight_bytes(engine),
        dtype=str(target.dtype).removeprefix("torch."),
        device=str(target.device),
        num_layers=target.layers.num_layers,
        vocab_size=target.vocab_size,
        max_context=target.max_context,
        has_tied_embeddings=not {*model.get_input_embeddings().parameters()}.isdisjoint(
            model.get_output_embeddings().parameters()
        ),
        kv_bytes_per_token=_kv_bytes_per_token(engine),
        eligible_layers=target.layers.eligible,
        reasons=target.layers.reasons,
        rounded_copy_bytes=target.predict_copy_bytes(4),
        kept_copies=_kept_copies(engine),
        remembered=DraftStore(target.fingerprint.weights).fitting(target.layers)[0],
    )


def _kept_copies(engine: "Engine") -> KeptCopies:
    file = engine.target.copy_cache.file(4)
    return KeptCopies(
        folder=str(copies_folder()),
        own_bytes=file.stat().st_size if file.is_file() else 0,
        total_bytes=copies_bytes(),
        limit_bytes=copies_limit(),
    )


def _weight_bytes(engine: "Engine") -> WeightBytes:
    model = engine.target.model
    modules = list(model.get_submodule(engine.target.layers.list_name).children())
    attention, mlp = [], []
    for module, layer in zip(modules, engine.target.layers.layers, strict=True):
        if layer.attention_name is not None:
            attention.append(module.get_submodule(layer.attention_name))
        mlp += [module.get_submodule(name) for name in layer.mlp_names]
    ends = _num_bytes(model.get_input_embeddings(), model.get_output_embeddings())
    known = _num_bytes(*attention) + _num_bytes(*mlp) + ends
    return WeightBytes(
        _num_bytes(*attention), _num_bytes(*mlp), ends, other=_num_bytes(model) - known
    )


def _num_bytes(*modules: "nn.Module") -> int:
    weights = {weight for module in modules for weight in weights_of(module)}
    return sum(num_bytes(weight) for weight in weights)


def _kv_bytes_per_token(engine: "Engine") -> int:
    """Measured, because models differ in what they keep: fill a small cache and look."""
    num_rows = KEY_BLOCK  # buffers are whole blocks
    cache = engine.target.new_cache(num_rows)
    engine.target.prefill(cache, [0] * num_rows)
    return cache.num_bytes() // num_rows
