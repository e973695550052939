"""Certifying a model when it is loaded, or recognising it by what is known of it (ADR 7)."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from selfdraft.errors import UnsupportedModelError
from selfdraft.model.attention.interface import IMPLEMENTATION
from selfdraft.model.structure.certificate import Certificate
from selfdraft.model.structure.certificate_cache import recall, remember
from selfdraft.model.structure.fingerprint import Fingerprint
from selfdraft.model.structure.probe import Probe
from selfdraft.model.weights.quantisation import is_quantised


@dataclass(frozen=True, slots=True, eq=False)
class CertifiedModel:
    """A view of a model that gives the model's own logits, and what is certified of it."""

    view: PreTrainedModel
    certificate: Certificate


def certify(
    model: PreTrainedModel,
    fingerprint: Fingerprint,
    own_parts: Mapping[nn.Module, nn.Module],
) -> CertifiedModel:
    """Certify `model`: one pass if a model with its fingerprint was certified before, else four.

    `own_parts` stand for some of its modules in the view.

    Raises:
        UnsupportedModelError: no way to run it gives its own logits.
    """
    probe = Probe(model, own_parts)
    known = recall(fingerprint)
    if known is not None:
        view = probe.recognise(known)
        if view is not None:
            return CertifiedModel(view, known)
    learned = probe.certify(IMPLEMENTATION) or probe.certify(None)
    if learned is None:
        raise UnsupportedModelError(
            f"{type(model).__name__} gives other logits when it continues from a cache than "
            f"from the start ({probe.problem}): {_remedy(model)}"
        )
    view, certificate = learned
    remember(fingerprint, certificate)
    return CertifiedModel(view, certificate)


def _remedy(model: PreTrainedModel) -> str:
    if is_quantised(model):
        return (
            "its activations are probably quantised for all tokens of a pass together, so that a "
            "token's logits depend on the others: quantise the weights only, or activations token "
            "by token, or use model.generate() of transformers"
        )
    return "use model.generate() of transformers"
