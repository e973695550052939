"""The engine: text in, text out."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from selfdraft.config import RequestConfig, RequestOptions, require
from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.loop import Drafter, speculate
from selfdraft.decoding.state import DecodingState
from selfdraft.drafts import Draft, Drafts
from selfdraft.generation import Generation, Result
from selfdraft.model.loading.load import load_model
from selfdraft.model.target import Target
from selfdraft.search.search_config import SearchConfig
from selfdraft.search.trace import Trace
from selfdraft.tested_versions import warn_of_untested_versions
from selfdraft.text.prompt import Prompt, encode_prompt, require_fits
from selfdraft.text.text_stream import TextSink


class Engine:
    """A model that drafts for itself.

    Any number of threads may generate at once on one engine: each request has its own cache, seed
    and statistics, and the model is only read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        draft: Draft = "auto",
        search: SearchConfig | None = None,
        remember: bool = True,
        trace: Trace | None = None,
        draft_memory_limit: int | None = None,
        copy_earlier_texts: bool = False,
        pack: bool = False,
    ) -> None:
        """Use a model that is loaded already. Without a tokenizer prompts are token ids.

        Args:
            model: a decoder-only model; it is only read, unless `pack`.
            tokenizer: its tokenizer.
            draft: what drafts, unless a request says otherwise.
            search: how `auto` looks for a draft.
            remember: begin with what was found for this model before, and keep what is found, and
                copies of the weights in fewer bits (`SELFDRAFT_HOME`, `SELFDRAFT_COPY_CACHE`).
            trace: where the search records what it does.
            draft_memory_limit: bytes that drafts may take for copies of the weights in fewer
                bits; 0 is no copy, None no limit.
            copy_earlier_texts: let drafts copy from prompts and outputs of earlier requests of this
                engine too. Not for users who must not learn of each other: what they are asked or
                told again comes faster.
            pack: lay the model's weights where a CPU reads them faster, with the same bits: in
                large pages (`huge_pages`), and in bfloat16 without AMX packed for oneDNN, after
                which the model is for inference on this device only (`packing`). Without it the
                model is not touched.

        Raises:
            UnsupportedModelError: the model cannot be decoded speculatively without risk.

        Warns:
            SelfdraftWarning: torch or transformers is newer than any version tested.
        """
        warn_of_untested_versions()
        make_target = Target.packed if pack else Target
        self.target = make_target(
            model, draft_memory_limit=draft_memory_limit, keeps_copies=remember
        )
        self.tokenizer = tokenizer
        self.draft = draft
        self.drafts = Drafts(
            self.target,
            search,
            remember=remember,
            trace=trace,
            copy_earlier_texts=copy_earlier_texts,
        )
        self.drafter(draft)  # a skip set that does not fit fails here, not in the first request

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str = "auto",
        draft: Draft = "auto",
        search: SearchConfig | None = None,
        remember: bool = True,
        trace: Trace | None = None,
        draft_memory_limit: int | None = None,
        copy_earlier_texts: bool = False,
        pack: bool = True,
    ) -> "Engine":
        """Load a model by alias (`smollm2-135m`), hub id, local folder or `.gguf` file.

        `dtype` "auto" is bfloat16 where the hardware computes it, else float32; `device` "auto" is
        the accelerator if there is one, else the CPU. `pack` is explained at `Engine`.

        Raises:
            ModelNotFoundError: nothing loadable stands behind `name`.
            CorruptDownloadError: a file is damaged.
            UnsupportedModelError: see `Engine`.
        """
        loaded = load_model(name, dtype=dtype, device=device)
        return cls(
            loaded.model,
            loaded.tokenizer,
            draft=draft,
            search=search,
            remember=remember,
            trace=trace,
            draft_memory_limit=draft_memory_limit,
            copy_earlier_texts=copy_earlier_texts,
            pack=pack,
        )

    def generate(
        self,
        prompt: Prompt,
        *,
        draft: Draft | None = None,
        logits_processors: Sequence[LogitsProcessor] = (),
        **options: Unpack[RequestOptions],
    ) -> Result:
        """Write the whole output and return it.

        Args:
            prompt: text, a list of chat messages, or token ids.
            draft: overrides the engine's draft for this request. It changes the speed only.
            logits_processors: processors of transformers, applied after the repetition penalty
                and before the temperature.
            **options: `max_new_tokens=256, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0,
                repetition_penalty=1.0, seed=0, stop=(), logprobs=0`; see `RequestConfig`.

        Raises:
            PromptError: the prompt is empty or does not fit the model.
            ConfigError: an option is out of range.
        """
        generation = self.stream(
            prompt, draft=draft, logits_processors=logits_processors, **options
        )
        for _ in generation:
            pass
        return generation.result

    def stream(
        self,
        prompt: Prompt,
        *,
        draft: Draft | None = None,
        logits_processors: Sequence[LogitsProcessor] = (),
        **options: Unpack[RequestOptions],
    ) -> Generation:
        """Start writing; iterate over the result for pieces of text. Arguments as in `generate`."""
        config = RequestConfig(**options)
        require(
            not config.stop or self.tokenizer is not None,
            "stop needs a tokenizer to look for text: give Engine one",
        )
        encoded = encode_prompt(prompt, self.tokenizer)
        require_fits(encoded.token_ids, self.target.vocab_size, self.target.max_context)
        ends = self.eos_token_ids | encoded.turn_end_ids
        sink = TextSink(
            self.tokenizer,
            stop=config.stop_strings,
            num_logprobs=config.logprobs,
            eos_token_ids=ends,
            context=() if encoded.is_chat else encoded.token_ids,
        )
        state = DecodingState.begin(
            self.target,
            list(encoded.token_ids),
            chooser=Chooser.from_config(config, logits_processors),
            sink=sink,
            max_new_tokens=config.max_new_tokens,
            eos_token_ids=ends,
        )
        rounds = speculate(self.target, self.drafter(draft), state)
        return Generation(rounds, state, sink, on_end=self.drafts.end_request)

    def drafter(self, draft: Draft | None = None) -> Drafter:
        """A drafter for one request, by default the engine's own.

        Raises:
            ConfigError: there is no such draft, or it does not fit the model.
        """
        return self.drafts.drafter(self.draft if draft is None else draft)

    def with_drafts(self, drafts: Drafts) -> "Engine":
        """An engine on the same target with other drafts; nothing is loaded or learned again."""
        twin = copy.copy(self)
        twin.drafts = drafts
        return twin

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The model's own end tokens, as transformers has it; else the tokenizer's."""
        own = self.tokenizer.eos_token_id if self.tokenizer is not None else None
        return self.target.eos_token_ids or frozenset([] if own is None else [own])
