"""Verification: one pass of the full model over a whole token tree."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfdraft.decoding.state import DecodingState, NewToken
from selfdraft.decoding.token_tree import Path, Source, TokenTree
from selfdraft.errors import UnsupportedModelError
from selfdraft.model.target import Target
from selfdraft.shapes import Logits


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the target said about a tree: its own next token after every node, and its path."""

    tree: TokenTree
    choices: Sequence[int]
    logits: Logits
    path: Path
    """The accepted nodes, from the root on: what the target would have written by itself."""

    @property
    def tokens(self) -> list[NewToken]:
        """The tokens chosen after each node of the path: drafted ones, then the bonus token."""
        sources: list[Source] = [*(self.tree.source(node) for node in self.path[1:]), "target"]
        return [
            NewToken(self.choices[node], source, self.logits[node])
            for node, source in zip(self.path, sources, strict=True)
        ]


def verify(target: Target, tree: TokenTree, state: DecodingState) -> Verdict:
    """The target's own choice after every node of `tree`, each with that node's own prefix.

    Raises:
        UnsupportedModelError: a number overflowed on its way through the model.
    """
    logits = target.forward(state.cache, tree.token_ids, tree.paths)
    tails = [tree.drafted_tokens(path) for path in tree.paths]
    choices = state.chooser.choose(logits, state.token_ids, tails)
    if not bool(logits.gather(1, choices[:, None]).isfinite().all()):
        raise UnsupportedModelError(
            f"the model gives logits that are not finite in {target.dtype}: load it in another "
            "dtype (float16 overflows where bfloat16 and float32 do not)"
        )
    chosen = choices.tolist()  # the round's one host sync
    return Verdict(tree, chosen, logits, tree.follow(chosen))
