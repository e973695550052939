"""Grammars: which tokens a text may go on with, so that it becomes JSON or what a grammar accepts.

A grammar is a logits processor, so the target's choice after every node of a tree is made under it,
with that node's own prefix: drafts cannot change a constrained text either (D1). The parsing
is llguidance's, which is installed with `selfdraft[serve]`.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from selfdraft.config import require
from selfdraft.errors import ConfigError
from selfdraft.text.grammar_trial import first_words, parser_limits, problem_of

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

_MAX_CHARS = 100_000
# The library recurses into what it compiles, and an overflow of the stack would end the process.
# What passed the trial did so on a far smaller stack.
_STACK_BYTES = 512 * 2**20
_NUM_KEPT_TRIALS = 128


class Grammars:
    """Makes the grammars of one model's requests. Any number of threads may ask at once."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int],
    ) -> None:
        """Takes no time: what all grammars share is made for the first one.

        Args:
            tokenizer: the model's.
            vocab_size: of the model's logits, which may be more than the tokenizer's.
            eos_token_ids: the tokens that end a text.
        """
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._lock = threading.Lock()
        # Clients send the same schema again and again, and a trial takes a tenth of a second.
        self._problem_of = lru_cache(_NUM_KEPT_TRIALS)(problem_of)

    def json_object(self, *, num_prompt_tokens: int) -> "GrammarProcessor":
        """The output is a JSON object, whatever it holds."""
        return self.json_schema({"type": "object"}, num_prompt_tokens=num_prompt_tokens)

    def json_schema(
        self, schema: Mapping[str, object], *, num_prompt_tokens: int
    ) -> "GrammarProcessor":
        """The output is JSON that `schema` accepts.

        Raises:
            ConfigError: it is no JSON schema, or has a part that cannot be enforced.
        """

        def compiled(library: "type[LLMatcher]") -> str:
            # Whatever the schema itself says: a keyword that is not enforced is an error.
            strictly: JsonCompileOptions = {"lenient": False}
            return library.grammar_from_json_schema(json.dumps(schema), overrides=strictly)

        return self._processor("JSON schema", compiled, num_prompt_tokens)

    def lark(self, text: str, *, num_prompt_tokens: int) -> "GrammarProcessor":
        """The output is what a grammar in llguidance's dialect of Lark accepts.

        Raises:
            ConfigError: it is no such grammar.
        """
        return self._processor(
            "grammar", lambda library: library.grammar_from_lark(text), num_prompt_tokens
        )

    def regex(self, pattern: str, *, num_prompt_tokens: int) -> "GrammarProcessor":
        """The output as a whole matches a regular expression, in the syntax of Rust's `regex`.

        Raises:
            ConfigError: it is no such expression.
        """
        return self._processor(
            "regular expression",
            lambda library: library.grammar_from_regex(pattern),
            num_prompt_tokens,
        )

    def _processor(
        self, kind: str, compiled: "Callable[[type[LLMatcher]], str]", num_prompt_tokens: int
    ) -> "GrammarProcessor":
        require(
            bool(self._eos_token_ids),
            f"a {kind} needs a model with an end token, and this one has none: leave it out",
        )
        library = _library()
        with self._lock:  # two first requests share one tokenizer
            tokenizer = self._grammar_tokenizer
        try:
            text = compiled(library)
        except (RecursionError, TypeError, ValueError) as error:
            raise ConfigError(f"the {kind} is not valid: {error}") from error
        require(
            len(text) <= _MAX_CHARS,
            f"the {kind} has {len(text)} characters: give at most {_MAX_CHARS}",
        )
        problem = self._problem_of(text)
        require(problem is None, f"the {kind} cannot be enforced: {problem}")
        matcher = self._with_deep_stack(
            lambda: library(tokenizer, text, log_level=0, limits=parser_limits())
        )
        require(
            not matcher.is_error(),
            f"the {kind} cannot be enforced: {first_words(matcher.get_error())}",
        )
        return GrammarProcessor(
            matcher,
            num_prompt_tokens=num_prompt_tokens,
            num_known_tokens=min(tokenizer.vocab_size, self._vocab_size),
            eos_token_ids=self._eos_token_ids,
        )

    def _with_deep_stack(self, make_matcher: "Callable[[], LLMatcher]") -> "LLMatcher":
        with ThreadPoolExecutor(1) as pool:
            with self._lock:  # the size is of every thread that starts now
                size = threading.stack_size(_STACK_BYTES)
                try:
                    future = pool.submit(make_matcher)
                finally:
                    threading.stack_size(size)
            return future.result()

    @cached_property
    def _grammar_tokenizer(self) -> "LLTokenizer":
        """The tokenizer as llguidance needs it, which takes a second for a large vocabulary."""
        from llguidance.hf import from_tokenizer

        if not isinstance(self._tokenizer, PreTrainedTokenizerFast):
            raise ConfigError(
                "grammars need a fast tokenizer, and this model's is a "
                f"{type(self._tokenizer).__name__}: add a tokenizer.json to its folder"
            )
        try:
            return from_tokenizer(self._tokenizer, eos_token=sorted(self._eos_token_ids))
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"this model's tokenizer cannot follow a grammar: {error}") from error


class GrammarProcessor(LogitsProcessor):
    """Forbids every token after which an output could no longer become what the grammar accepts.

    Once the output is complete, only the end tokens are left. A function of the output's tokens
    alone; but it remembers where it stood, as the nodes of a tree have most of their prefixes in
    common. So it belongs to one request.
    """

    def __init__(
        self,
        start: "LLMatcher",
        *,
        num_prompt_tokens: int,
        num_known_tokens: int,
        eos_token_ids: frozenset[int],
    ) -> None:
        """`start` stands at the beginning. The tokenizer knows the vocabulary's first tokens."""
        self._start = start
        self._matcher = start.deep_copy()
        self._consumed: list[int] = []  # where the matcher stands
        self._num_prompt_tokens = num_prompt_tokens
        self._num_known_tokens = num_known_tokens
        self._eos_token_ids = eos_token_ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores with -inf for every token that may not follow its row's prefix.

        A prefix that the grammar does not accept leaves its row as it is: it is a draft's wrong
        guess, which the target's choice before it has refused already.

        Raises:
            ConfigError: the grammar is beyond the parser's limits here.
        """
        outputs = input_ids[:, self._num_prompt_tokens :].tolist()
        rows = zip(outputs, scores, strict=True)
        return torch.stack([self._mask(output, row) for output, row in rows])

    def fresh(self) -> "GrammarProcessor":
        """A processor for another answer to the same prompt; the grammar is not compiled again."""
        return GrammarProcessor(
            self._start,
            num_prompt_tokens=self._num_prompt_tokens,
            num_known_tokens=self._num_known_tokens,
            eos_token_ids=self._eos_token_ids,
        )

    def _mask(self, output: list[int], row: Tensor) -> Tensor:
        allowed = self._allowed(output, len(row))
        if self._matcher.is_error():  # perhaps by the way it came here: only the place counts
            self._restart()
            allowed = self._allowed(output, len(row))
        if self._matcher.is_error():
            reason = first_words(self._matcher.get_error())
            self._restart()
            raise ConfigError(
                f"the grammar cannot be followed after {len(output)} tokens ({reason}): simplify it"
            )
        return row if allowed is None else row.masked_fill(~allowed.to(row.device), -torch.inf)

    def _allowed(self, output: list[int], vocab_size: int) -> Tensor | None:
        """Which tokens may follow `output`; None if the grammar does not accept even that."""
        if not self._move_to(output):
            return None
        allowed = np.zeros(vocab_size, dtype=np.bool_)
        if not self._matcher.is_stopped():
            known = _unpack(self._matcher.compute_bitmask())[: self._num_known_tokens]
            allowed[: len(known)] = known
        if self._matcher.is_accepting():
            allowed[list(self._eos_token_ids)] = True
        return torch.from_numpy(allowed)

    def _move_to(self, output: list[int]) -> bool:
        """Have the matcher consume `output` and nothing else. False if it refuses a token."""
        num_shared = _num_shared(self._consumed, output)
        num_wrong = len(self._consumed) - num_shared
        if num_wrong and not self._matcher.rollback(num_wrong):
            self._restart()
            num_shared = 0
        del self._consumed[num_shared:]
        for token_id in output[num_shared:]:
            if not self._consume(token_id):
                return False
            self._consumed.append(token_id)
        return True

    def _consume(self, token_id: int) -> bool:
        # A matcher that has stopped takes a further token for a fault of its caller. And nothing
        # that follows an end token is ever written.
        if self._matcher.is_stopped() or token_id in self._eos_token_ids:
            return False
        if token_id >= self._num_known_tokens:
            return False
        return self._matcher.try_consume_tokens([token_id]) == 1

    def _restart(self) -> None:
        self._matcher = self._start.deep_copy()
        self._consumed = []


def _library() -> "type[LLMatcher]":
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise ConfigError(
            "JSON and grammars need the library llguidance: pip install 'selfdraft[serve]'"
        ) from error
    return LLMatcher


def _unpack(mask: bytes) -> npt.NDArray[np.bool_]:
    """One entry for each token, from one bit."""
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")
    return cast(npt.NDArray[np.bool_], bits.view(np.bool_))


def _num_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:  # the usual case, and fast
        return length
    return next(index for index in range(length) if one[index] != other[index])
