"""The losslessness contract, checked on the user's own model and machine (docs/contract.md).

Every prompt is decoded in vanilla fashion and with drafts that are good, bad and absurd. Tokens
must be the same, and on a CPU in bfloat16 the logits must be the same bits. The tokens are
also compared with transformers' `generate`, which decodes one row at a time: in low precision the
two may differ where the two best tokens are nearly tied, so every divergence comes with its margin.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser
from selfdraft.decoding.loop import speculate
from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.drafts import Draft
from selfdraft.engine import Engine
from selfdraft.model.skip_set import SkipSet

TRANSFORMERS = "transformers generate"

# A margin is a near-tie if rounding alone can close it: so many units in the last place.
_NEAR_TIE_ULPS = 16


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where one output first differs from vanilla's."""

    prompt: int
    position: int
    """New tokens before it."""
    vanilla_token: int
    other_token: int
    margin: float
    """Vanilla's logit of its own token, minus that of the other."""
    tolerance: float
    """The largest such difference that rounding alone can explain; see `near_tie_margin`."""
    is_near_tie: bool


@dataclass(slots=True)
class Comparison:
    """How one way of decoding compares with vanilla, over all prompts."""

    name: str
    num_prompts: int = 0
    num_same_tokens: int = 0
    num_same_bits: int | None = None
    """Prompts all of whose logits have the same bits; None where logits are not compared."""
    divergences: list[Divergence] = field(default_factory=list)

    @property
    def num_real_divergences(self) -> int:
        """Divergences that rounding does not explain."""
        return sum(not divergence.is_near_tie for divergence in self.divergences)


@dataclass(frozen=True, slots=True)
class _Output:
    token_ids: list[int]
    logits: Tensor | None


@dataclass(frozen=True, slots=True)
class Contract:
    """What the contract promises for a model on its device."""

    level: str
    promises_bits: bool

    @classmethod
    def for_engine(cls, engine: Engine) -> "Contract":
        """The contract's clause for this engine's device and dtype."""
        if engine.target.is_bit_exact:
            return cls("L2: bit-identical logits with and without speculation", True)
        is_precise = engine.target.dtype in (torch.float32, torch.float64)
        if engine.target.device.type == "cpu" and is_precise:
            return cls("L1: token-identical to transformers' generate", False)
        return cls("L4: identical up to floating-point near-ties", False)

    def covers(self, comparison: Comparison) -> bool:
        """Whether anything is promised: in low precision stock attention rounds in its own way."""
        return not (self.promises_bits and comparison.name == TRANSFORMERS)

    def is_kept_by(self, comparison: Comparison) -> bool:
        """Whether `comparison` stays within the contract."""
        if not self.covers(comparison):
            return True
        if self.promises_bits:
            return comparison.num_same_bits == comparison.num_prompts
        return comparison.num_real_divergences == 0


def check_drafts(engine: Engine) -> dict[str, Draft]:
    """Drafts that stress every part of the machinery, by name."""
    everything = engine.target.layers.eligible
    alone = engine.target.layers.eligible_alone
    few = SkipSet(alone[1::7], alone[::7])
    return {
        "swift": "swift",
        "chain of 4": DraftConfig.chain(4, skip_set=few),
        "wide tree": DraftConfig(
            skip_set=few, stop_confidence=0.3, max_draft_steps=8, sibling_counts=((1.0, 4),)
        ),
        "absurd draft": DraftConfig.chain(6, skip_set=SkipSet(everything, everything)),
    }


def check_contract(
    engine: Engine,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    on_step: Callable[[], None] = lambda: None,
) -> list[Comparison]:
    """Decode every prompt in every way and compare; `on_step` is called after each output."""
    drafts = check_drafts(engine)
    greedy = {name: Comparison(name, num_same_bits=0) for name in drafts}
    sampled = Comparison("swift, sampled at temperature 0.8", num_same_bits=0)
    plain = Comparison(TRANSFORMERS)
    for index, prompt in enumerate(prompts):
        config = RequestConfig(max_new_tokens=max_new_tokens)
        vanilla = _decode(engine, prompt, "off", config)
        on_step()
        for name, draft in drafts.items():
            _compare(greedy[name], index, vanilla, _decode(engine, prompt, draft, config))
            on_step()
        _compare(plain, index, vanilla, _transformers_output(engine, prompt, max_new_tokens))
        on_step()
        config = RequestConfig(
            max_new_tokens=max_new_tokens, temperature=0.8, top_p=0.95, seed=index
        )
        vanilla = _decode(engine, prompt, "off", config)
        _compare(sampled, index, vanilla, _decode(engine, prompt, "swift", config))
        on_step()
    return [*greedy.values(), sampled, plain]


def num_steps(engine: Engine, num_prompts: int) -> int:
    """How often `check_contract` will call `on_step`."""
    return num_prompts * (len(check_drafts(engine)) + 3)


def near_tie_margin(logits: Tensor) -> float:
    """The largest difference of two of these logits that rounding alone can explain."""
    return _NEAR_TIE_ULPS * torch.finfo(logits.dtype).eps * float(logits.abs().max())


class _LogitsSink:
    """Keeps the logits that every token was chosen from."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def push(self, token: NewToken) -> bool:
        self.rows.append(token.logits.clone())
        return False


def _decode(engine: Engine, prompt: list[int], draft: Draft, config: RequestConfig) -> _Output:
    sink = _LogitsSink()
    state = DecodingState.begin(
        engine.target,
        list(prompt),
        chooser=Chooser.from_config(config),
        sink=sink,
        max_new_tokens=config.max_new_tokens,
        eos_token_ids=engine.eos_token_ids,
    )
    for _ in speculate(engine.target, engine.drafter(draft), state):
        pass
    return _Output(state.token_ids[len(prompt) :], torch.stack(sink.rows))


def _transformers_output(engine: Engine, prompt: list[int], max_new_tokens: int) -> _Output:
    input_ids = torch.tensor([prompt], device=engine.target.device)
    end_tokens = sorted(engine.eos_token_ids)
    options = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=end_tokens or None,
        pad_token_id=end_tokens[0] if end_tokens else 0,
    )
    model: Any = engine.target.model  # transformers types generate for its own mixin only
    sequence = model.generate(
        input_ids, attention_mask=torch.ones_like(input_ids), generation_config=options
    )
    return _Output(sequence[0, len(prompt) :].tolist(), None)


def _compare(comparison: Comparison, index: int, vanilla: _Output, other: _Output) -> None:
    comparison.num_prompts += 1
    comparison.num_same_tokens += vanilla.token_ids == other.token_ids
    if comparison.num_same_bits is not None:
        assert vanilla.logits is not None
        assert other.logits is not None
        comparison.num_same_bits += torch.equal(vanilla.logits, other.logits)
    comparison.divergences.extend(_divergence(index, vanilla, other))


def _divergence(index: int, vanilla: _Output, other: _Output) -> Iterator[Divergence]:
    """The first difference, if there is one."""
    assert vanilla.logits is not None
    pairs = zip(vanilla.token_ids, other.token_ids, strict=False)
    for position, (ours, theirs) in enumerate(pairs):
        if ours != theirs:
            row = vanilla.logits[position]
            margin = float(row[ours]) - float(row[theirs])
            tolerance = near_tie_margin(row)
            is_near_tie = abs(margin) <= tolerance
            yield Divergence(index, position, ours, theirs, margin, tolerance, is_near_tie)
            return
