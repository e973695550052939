"""Is what a method wrote the same as what it should have written, and if not, by how little?

Our drafts are compared with vanilla decoding by the same engine, speculation of transformers with
its plain `generate`; both comparisons are made for every method and shown. A divergence comes with
its margin: the reference's score of its own token, less that of the other one. Small margins are
near-ties that rounding explains; anything else is another text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from selfdraft.bench.methods.method import PLAIN, VANILLA, Request
from selfdraft.bench.run.contract import near_tie_margin
from selfdraft.bench.run.measurement import Measurement, PromptKey
from selfdraft.config import RequestConfig
from selfdraft.decoding.choice import Chooser
from selfdraft.engine import Engine

REFERENCES = (VANILLA, PLAIN)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where an output leaves its reference for the first time."""

    task: str
    prompt_index: int
    repeat: int
    position: int
    """New tokens before it."""
    reference_token: int | None
    other_token: int | None
    """None where an output ends and the other goes on."""
    margin: float | None
    is_near_tie: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """How many outputs of a method are those of its reference, token by token."""

    reference: str
    num_outputs: int
    num_same: int
    divergences: tuple[Divergence, ...]

    @property
    def num_real_divergences(self) -> int:
        """Divergences that rounding does not explain."""
        return sum(not d.is_near_tie for d in self.divergences)


class Referee:
    """Compares outputs, and asks the target for the margin where they part."""

    def __init__(self, engine: Engine, requests: Mapping[tuple[str, int], Request]) -> None:
        """`requests` by task and index of the prompt."""
        self._engine = engine
        self._requests = requests
        self._margins: dict[tuple[str, int, tuple[int, ...], int, int], tuple[float, bool]] = {}

    def compare(
        self, outputs: Iterable[Measurement], references: Mapping[PromptKey, Measurement]
    ) -> Identity:
        """Compare each output with the reference's output for the same prompt and repeat."""
        divergences: list[Divergence] = []
        num_outputs = num_same = 0
        name = ""
        for output in outputs:
            reference = references[output.prompt_key]
            name = reference.method
            num_outputs += 1
            if output.token_ids == reference.token_ids:
                num_same += 1
            else:
                divergences.append(self._divergence(output, reference))
        return Identity(name, num_outputs, num_same, tuple(divergences))

    def _divergence(self, output: Measurement, reference: Measurement) -> Divergence:
        pairs = zip(reference.token_ids, output.token_ids, strict=False)
        position = next(
            (i for i, (one, other) in enumerate(pairs) if one != other),
            min(len(reference.token_ids), len(output.token_ids)),
        )
        ours = _at(reference.token_ids, position)
        theirs = _at(output.token_ids, position)
        margin, is_near_tie = None, False
        if ours is not None and theirs is not None:
            margin, is_near_tie = self._margin(reference, position, ours, theirs)
        where = (output.task, output.prompt_index, output.repeat)
        return Divergence(*where, position, ours, theirs, margin, is_near_tie)

    def _margin(
        self, reference: Measurement, position: int, ours: int, theirs: int
    ) -> tuple[float, bool]:
        """The target's score of one token less that of the other, after the shared tokens."""
        prefix = reference.token_ids[:position]
        key = (reference.task, reference.prompt_index, prefix, ours, theirs)
        if key not in self._margins:
            request = self._requests[key[0], key[1]]
            self._margins[key] = self._measure_margin(request, prefix, ours, theirs)
        return self._margins[key]

    def _measure_margin(
        self, request: Request, prefix: tuple[int, ...], ours: int, theirs: int
    ) -> tuple[float, bool]:
        target = self._engine.target
        sequence = [*request.token_ids, *prefix]
        cache = target.new_cache(len(sequence) + 1)
        if len(sequence) > 1:
            target.prefill(cache, sequence[:-1])
        logits = target.forward(cache, sequence[-1:], ((0,),))
        config = RequestConfig(temperature=request.temperature, seed=request.seed)
        chooser = Chooser.from_config(config)
        scores = chooser.perturb(chooser.warp(logits, sequence, [()]), [len(sequence)])[0]
        margin = float(scores[ours]) - float(scores[theirs])
        # A temperature stretches the differences of logits, and so what rounding does to them.
        return margin, abs(margin) * (request.temperature or 1) <= near_tie_margin(logits[0])


def _at(token_ids: tuple[int, ...], position: int) -> int | None:
    return token_ids[position] if position < len(token_ids) else None
