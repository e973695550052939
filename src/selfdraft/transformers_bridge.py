"""selfdraft inside transformers' `generate`, for those who stay there.

    model.generate(**inputs, custom_generate=selfdraft.custom_generate)

transformers hands a custom function neither the streamer nor the tokenizer that `generate` was
given, so bind what you need:

    stream = functools.partial(selfdraft.custom_generate, streamer=TextStreamer(tokenizer))
    model.generate(**inputs, custom_generate=stream)
"""

import warnings
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    StopStringCriteria,
)
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput

from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.loop import speculate
from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.drafts import Draft
from selfdraft.engine import Engine
from selfdraft.errors import ConfigError, SelfdraftWarning
from selfdraft.generate_options import require_supported
from selfdraft.model.cache.given_cache import fill, given_cache, named_in_output
from selfdraft.text.prompt import require_fits


def custom_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: BaseStreamer | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    stop_strings: str | Sequence[str] = (),
    draft: Draft = "auto",
    **model_kwargs: object,
) -> Tensor | GenerateDecoderOnlyOutput:
    """The decoding method to pass to `generate` as `custom_generate`: the same tokens, faster.

    Every logits processor and stopping criterion of `generate` works. With `do_sample=True` the
    seed of the request is drawn from torch's default generator, so `torch.manual_seed` decides it.

    Args:
        model: filled in by transformers, like every argument that is not named below.
        input_ids: of shape (1, tokens).
        logits_processor: those of `generate`, sampling filters included.
        stopping_criteria: those of `generate`.
        generation_config: the options of `generate`.
        streamer: bind it with `functools.partial`; one given to `generate` does not arrive here.
        tokenizer: needed for `stop_strings`, and bound in the same way.
        stop_strings: the output ends with the token that completes one of them.
        draft: see `Engine`. Without drafts of few bits: an `Engine` keeps such a copy, a call of
            this function cannot.
        **model_kwargs: further inputs of the model. An empty `DynamicCache` is filled, and is part
            of the result with `return_dict_in_generate`, as `generate` does it.

    Raises:
        ConfigError: an option or input of `generate` that is not supported, by name.

    Warns:
        SelfdraftWarning: the model's context ends before the length that was asked for.
    """
    require_supported(input_ids, generation_config, model_kwargs)
    if stop_strings:
        criterion = _stop_string_criterion(tokenizer, stop_strings)
        stopping_criteria = StoppingCriteriaList([*stopping_criteria, criterion])
    # A copy of the weights in few bits, made anew in every call, would cost more than it gains.
    engine = Engine(model, draft=draft, draft_memory_limit=0)
    prompt = cast(list[int], input_ids[0].tolist())
    require_fits(prompt, engine.target.vocab_size, engine.target.max_context)
    if streamer is not None:
        streamer.put(input_ids.cpu())
    max_length = generation_config.max_length
    _warn_of_context(max_length, engine.target.max_context)
    state = DecodingState.begin(
        engine.target,
        prompt,
        chooser=Chooser(logits_processor, _draw_seed() if generation_config.do_sample else None),
        sink=_CriteriaSink(input_ids, stopping_criteria, streamer),
        max_new_tokens=max_length - len(prompt),
        eos_token_ids=frozenset(),  # the end tokens are among the criteria
    )
    for _ in speculate(engine.target, engine.drafter(), state):
        pass
    if streamer is not None:
        streamer.end()
    cache = given_cache(model_kwargs)
    fill(cache, state.cache)
    sequences = cast(torch.LongTensor, torch.tensor([state.token_ids], device=input_ids.device))
    if generation_config.return_dict_in_generate:
        return GenerateDecoderOnlyOutput(sequences=sequences, **named_in_output(cache))
    return sequences


class _CriteriaSink:
    """Asks transformers' stopping criteria after every token, and feeds a streamer."""

    def __init__(
        self, input_ids: Tensor, criteria: StoppingCriteriaList, streamer: BaseStreamer | None
    ) -> None:
        self._sequence = input_ids
        self._criteria = criteria
        self._streamer = streamer

    def push(self, token: NewToken) -> bool:
        """Take one token; True if a criterion ends the sequence with it."""
        column = torch.tensor([[token.token_id]], device=self._sequence.device)
        self._sequence = torch.cat([self._sequence, column], dim=1)
        if self._streamer is not None:
            self._streamer.put(column[0].cpu())
        # `generate` gives scores to criteria only where it keeps them, which is refused here.
        return bool(self._criteria(self._sequence, None).all())


def _stop_string_criterion(
    tokenizer: PreTrainedTokenizerBase | None, stop_strings: str | Sequence[str]
) -> StopStringCriteria:
    if tokenizer is None:
        raise ConfigError(
            "stop_strings needs a tokenizer, and transformers does not hand a custom function the "
            "one that generate was given: bind it, as in custom_generate="
            "functools.partial(selfdraft.custom_generate, tokenizer=tokenizer)"
        )
    strings = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
    return StopStringCriteria(tokenizer, strings)


def _draw_seed() -> int:
    return int(torch.randint(2**62, ()))


def _warn_of_context(max_length: int, max_context: int | None) -> None:
    if max_context is not None and max_length > max_context:
        warnings.warn(
            f"the text may have {max_length} tokens and the model's predefined maximum length is "
            f"{max_context}: it ends there",
            SelfdraftWarning,
            stacklevel=4,  # the call of `generate`
        )
