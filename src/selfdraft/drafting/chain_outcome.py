"""What became of the tokens that a model's own draft named in a round."""

from dataclasses import dataclass

from selfdraft.decoding.loop import Round


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """How many tokens in a row the draft had right, and whether the next one was wrong.

    Not the accepted length: where a sibling was kept, the drafted token was still wrong.
    """

    num_right: int = 0
    was_wrong: bool = False

    @classmethod
    def of_main_chain(cls, outcome: Round) -> "ChainOutcome":
        """The outcome of the nodes 0, 1, 2, ... of the tree, each the child of the one before."""
        length = 0
        for node, parent in enumerate(outcome.tree.parents):
            if parent != node - 1:
                break
            length = node
        num_right = sum(node == depth for depth, node in enumerate(outcome.accepted)) - 1
        return cls(num_right, num_right < length)
