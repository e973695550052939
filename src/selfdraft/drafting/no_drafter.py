"""Vanilla decoding: the drafter that proposes nothing."""

from selfdraft.decoding.loop import Round
from selfdraft.decoding.state import DecodingState
from selfdraft.decoding.token_tree import TokenTree


class NoDrafter:
    """Proposes only the root, so every round yields the target's next token and no more."""

    def propose(self, state: DecodingState) -> TokenTree:
        """The last token of the sequence, alone."""
        return TokenTree.root_only(state.token_ids[-1])

    def observe(self, state: DecodingState, outcome: Round) -> None:
        """Nothing to learn."""
