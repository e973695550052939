"""Checkpoints that are loaded whole: every weight of the model came from the files, and all fit.

transformers fills what a checkpoint lacks with random numbers, leaves out what it does not know,
casts whatever numbers it finds, and logs all that where nobody looks. Each of these makes a text
that is wrong without a word, so each is an error here (docs/loading.md has the list). Nothing reads
the weights a second time: transformers' own report and the headers of the files are enough.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from selfdraft.errors import CorruptDownloadError, UnsupportedModelError
from selfdraft.model.structure.probe import decoder_config

_MOST_NAMES = 4
_REMEDY = "download it again, or load it with transformers and give the model to Engine"

# Masks and angles that older versions of transformers saved with the weights, though no training
# ever changed them. A bias is one of them only where no weight stands beside it.
_OLD_BUFFERS = ("bias", "masked_bias", "causal_mask", "inv_freq", "position_ids")

# What a matrix of plain weights is stored in, as safetensors calls it.
_PLAIN_DTYPES = ("F64", "F32", "F16", "BF16")


def load_whole(source: Path, label: str, **options: Any) -> PreTrainedModel:
    """The model of `AutoModelForCausalLM.from_pretrained(source, **options)`, if it is whole.

    `label` names the checkpoint in errors.

    Raises:
        CorruptDownloadError: a weight is missing, of another shape, or was not used.
        Whatever `from_pretrained` raises.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    model, report = loaded
    assert isinstance(model, PreTrainedModel)
    _require_whole(model, report, label)
    return model


def require_readable_config(folder: Path) -> None:
    """Refuse settings of a model folder that transformers would ignore in silence.

    Raises:
        UnsupportedModelError: it is a LoRA adapter, is quantised in a way that nobody knows, or
            holds weights of few bits and no word about how to read them.
    """
    if (folder / "adapter_config.json").is_file():
        raise UnsupportedModelError(
            f"{folder} holds a LoRA adapter (adapter_config.json): merge it into its model with "
            "peft (merge_and_unload, then save_pretrained) and give the merged folder"
        )
    settings = _read_config(folder).get("quantization_config")
    if settings is None:
        _require_plain_weights(folder)
        return
    method = settings.get("quant_method") if isinstance(settings, Mapping) else settings
    if method is not None and str(method) not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        known = ", ".join(sorted(AUTO_QUANTIZATION_CONFIG_MAPPING))
        raise UnsupportedModelError(
            f"{folder} is quantised by {method!r}, which this version of transformers does not "
            f"know (it knows {known}): give the model in another format, or a newer transformers"
        )


def require_rotary_settings(folder: Path, model: PreTrainedModel) -> None:
    """Refuse rotary settings in `config.json` that did not reach the model.

    Libraries of different age spell them in different ways, and what is not understood is dropped.

    Raises:
        UnsupportedModelError: the base or the scaling of the angles is not the file's.
    """
    written = _read_config(folder)
    loaded = getattr(decoder_config(model), "rope_parameters", None) or {}
    if "text_config" in written or "rope_type" not in loaded:  # of several parts or several kinds
        return
    newer, older = written.get("rope_parameters") or {}, written.get("rope_scaling") or {}
    base = newer.get("rope_theta", written.get("rope_theta"))
    wrong = []
    if base is not None and base != loaded.get("rope_theta"):
        wrong.append(f"rope_theta {base}, where the loaded model has {loaded.get('rope_theta')}")
    if "factor" in {**newer, **older} and loaded["rope_type"] == "default":
        wrong.append("a factor of scaling without the rope_type that it belongs to")
    if wrong:
        raise UnsupportedModelError(
            f"{folder / 'config.json'} has {' and '.join(wrong)}: write its rotary settings as "
            "rope_parameters with rope_type and rope_theta"
        )


def require_fitting_tokenizer(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, label: str
) -> None:
    """Refuse a tokenizer that cannot be the model's.

    Raises:
        UnsupportedModelError: it has more tokens than the model, or lacks the model's end token.
    """
    embedding = model.get_input_embeddings()
    num_rows = int(getattr(embedding, "num_embeddings", 0)) or None
    if num_rows is not None and tokenizer.vocab_size > num_rows:
        raise UnsupportedModelError(
            f"the tokenizer of {label} has {tokenizer.vocab_size} tokens and the model "
            f"{num_rows}, so one of them belongs to another model: put the model's own tokenizer "
            "beside it"
        )
    config = model.generation_config
    ends = config.eos_token_id if config is not None else None
    unknown = [
        end
        for end in ([ends] if isinstance(ends, int) else ends or [])
        if end >= len(tokenizer) and end not in tokenizer.get_vocab().values()
    ]
    if unknown:
        raise UnsupportedModelError(
            f"the model of {label} ends its texts with token {unknown[0]}, and its tokenizer has "
            f"only {len(tokenizer)}: put the model's own tokenizer beside it"
        )


def listed(names: Collection[str]) -> str:
    """The first few of some names, and how many more there are."""
    shown = sorted(names)[:_MOST_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _require_whole(model: PreTrainedModel, report: Mapping[str, Any], label: str) -> None:
    problems = []
    mismatched = {name: (found, wanted) for name, found, wanted in report["mismatched_keys"]}
    if missing := report["missing_keys"] - mismatched.keys():
        problems.append(f"lacks {listed(missing)}, which would be filled with random numbers")
    if mismatched:
        name = min(mismatched)
        found, wanted = (tuple(shape) for shape in mismatched[name])
        problems.append(
            f"has another shape than its config says for {listed(mismatched)} ({found} instead of "
            f"{wanted} for {name})"
        )
    if unused := [name for name in report["unexpected_keys"] if _belongs(name, model)]:
        problems.append(f"holds {listed(unused)}, for which its config leaves no place")
    problems += [str(message).splitlines()[0] for message in report.get("error_msgs", ())]
    if problems:
        raise CorruptDownloadError(
            f"{label} is no whole {type(model).__name__}: it {'; it '.join(problems)}: {_REMEDY}"
        )


def _belongs(name: str, model: nn.Module) -> bool:
    """Whether a weight that was not used is named as a part of what decodes.

    Towers for pictures and heads for training lie beside the decoder, and no text needs them. What
    lies inside a part that the model has (a bias, a further layer) would have changed the text.
    """
    modules = dict(model.named_modules())
    parent, _, leaf = name.rpartition(".")
    if leaf in _OLD_BUFFERS and not hasattr(modules.get(parent), "weight"):
        return False
    around = parent
    while around not in modules:
        around = around.rpartition(".")[0]
    return around not in ("", model.base_model_prefix)


def _read_config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config if isinstance(config, dict) else {}


def _require_plain_weights(folder: Path) -> None:
    """Refuse matrices of integers or 8-bit floats, which a load without instructions casts."""
    packed = [name for file in folder.glob("*.safetensors") for name in _packed_matrices(file)]
    if packed:
        raise UnsupportedModelError(
            f"{folder} holds {listed(packed)} in few bits, and its config.json has no "
            "quantization_config that says how to read them: download the model again, with the "
            "config of this format"
        )


def _packed_matrices(file: Path) -> Iterator[str]:
    with safe_open(file, framework="pt") as content:
        for name in content.keys():  # noqa: SIM118  # a safetensors file is no mapping
            tensor = content.get_slice(name)
            is_matrix = name.endswith(".weight") and len(tensor.get_shape()) > 1
            if is_matrix and tensor.get_dtype() not in _PLAIN_DTYPES:
                yield name
