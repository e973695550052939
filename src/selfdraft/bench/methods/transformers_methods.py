"""What users have without us: `generate` of transformers, plain and with its own speculation.

The model is loaded once more, by transformers alone, and shared by these methods: nothing of ours
is in it, neither packed weights nor another attention.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from selfdraft.bench.methods.method import PLAIN, Family, Output, Request
from selfdraft.config import require
from selfdraft.decoding.stopwatch import now
from selfdraft.errors import ConfigError
from selfdraft.storage.progress import quiet_transformers

_LOOKUP_TOKENS = 10

NAMES = (PLAIN, "transformers-lookup", "transformers-assisted", "transformers-early-exit")


@dataclass(frozen=True, slots=True, eq=False)
class PlainModel:
    """A model as transformers loads it, and perhaps its assistant."""

    model: Any  # transformers types `generate` for its own mixin only
    eos_token_ids: frozenset[int]
    assistant: Any = None
    tokenizers: tuple[Any, Any] | None = None
    """The model's and the assistant's, if they differ: tokens are then translated."""

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype,
        device: torch.device,
        eos_token_ids: frozenset[int],
        assistant: Path | None = None,
    ) -> "PlainModel":
        """Load both from their folders, in the precision and on the device of the engine."""
        model = _load(folder, dtype, device)
        # Defaults that a model brings along, such as a repetition penalty, would change its text.
        model.generation_config = GenerationConfig()
        if assistant is None:
            return cls(model, eos_token_ids)
        tokenizers = (
            AutoTokenizer.from_pretrained(folder, local_files_only=True),
            AutoTokenizer.from_pretrained(assistant, local_files_only=True),
        )
        is_shared = tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
        return cls(
            model,
            eos_token_ids,
            _load(assistant, dtype, device),
            None if is_shared else tokenizers,
        )


class TransformersMethod:
    """`generate`, with the options of one kind of speculation."""

    family: Family = "transformers"

    def __init__(self, name: str, plain: PlainModel, options: dict[str, Any]) -> None:
        self.name = name
        self._plain = plain
        self._options = options

    def run(self, request: Request) -> Output:
        """Generate, and note when tokens came."""
        model = self._plain.model
        input_ids = torch.tensor([request.token_ids], device=model.device)
        if request.temperature:
            torch.manual_seed(request.seed)
        clock = _Clock(model.device)
        with torch.inference_mode():
            sequence = model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                generation_config=self._config(request),
                streamer=clock,
                **self._options,
            )
        total_seconds = clock.seconds()
        token_ids = tuple(sequence[0, len(request.token_ids) :].tolist())
        first_seconds, num_first = clock.timeline[0]
        return Output(
            token_ids=token_ids,
            total_seconds=total_seconds,
            prefill_seconds=first_seconds,
            decode_seconds=total_seconds - first_seconds,
            num_decoded=len(token_ids) - num_first,
            timeline=tuple(clock.timeline),
            num_rounds=len(clock.timeline),
        )

    def _config(self, request: Request) -> GenerationConfig:
        end_tokens = sorted(self._plain.eos_token_ids)
        sampling: dict[str, Any] = {"do_sample": False}
        if request.temperature:
            sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0}
        return GenerationConfig(
            max_new_tokens=request.max_new_tokens,
            eos_token_id=end_tokens or None,
            pad_token_id=end_tokens[0] if end_tokens else 0,
            **sampling,
        )


def transformers_method(name: str, plain: PlainModel) -> TransformersMethod:
    """The method `name`, which may end in `=N`: tokens to look up, or the layer to leave at.

    Raises:
        ConfigError: there is no such method, or it needs what is not there.
    """
    kind, _, value = name.partition("=")
    if value and not value.isdigit():
        raise ConfigError(f"method {name!r}: write a whole number after =")
    if kind == PLAIN:
        return TransformersMethod(name, plain, {})
    if kind == "transformers-lookup":
        num_tokens = int(value or _LOOKUP_TOKENS)
        return TransformersMethod(name, plain, {"prompt_lookup_num_tokens": num_tokens})
    if kind == "transformers-early-exit":
        num_layers = plain.model.config.get_text_config(decoder=True).num_hidden_layers
        layer = int(value or max(1, num_layers // 4))
        require(0 < layer < num_layers, f"{name}: the model has layers 1 to {num_layers - 1}")
        return TransformersMethod(name, plain, {"assistant_early_exit": layer})
    if kind == "transformers-assisted":
        require(plain.assistant is not None, f"{name} needs a second model: give --assistant MODEL")
        options: dict[str, Any] = {"assistant_model": plain.assistant}
        if plain.tokenizers is not None:
            options["tokenizer"], options["assistant_tokenizer"] = plain.tokenizers
        return TransformersMethod(name, plain, options)
    raise ConfigError(f"there is no method {name!r}: give one of {', '.join(NAMES)}")


class _Clock:
    """A streamer that notes when tokens came. The first thing it is given is the prompt."""

    def __init__(self, device: torch.device) -> None:
        self.timeline: list[tuple[float, int]] = []
        self._device = device
        self._has_prompt = False
        self._start = now(device)

    def seconds(self) -> float:
        """Seconds since it was made."""
        return now(self._device) - self._start

    def put(self, token_ids: torch.Tensor) -> None:
        """Take new tokens, which are on the CPU: so the device has done them."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        num_before = self.timeline[-1][1] if self.timeline else 0
        self.timeline.append((round(self.seconds(), 6), num_before + token_ids.numel()))

    def end(self) -> None:
        """Nothing to do: `generate` calls it after the last token."""


def _load(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    with quiet_transformers():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True
        )
    return model.to(device).eval()
