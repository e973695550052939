"""Methods that leave one thing out, to show what it is worth.

`auto-no-copy` is `auto` as with `draft_memory_limit=0`: it makes no copy of the weights in fewer
bits. `unpacked` is plain decoding with weights where they were loaded. Neither changes the text.
"""

from pathlib import Path

from selfdraft.bench.methods.method import VANILLA, EngineMethod
from selfdraft.drafts import Drafts
from selfdraft.engine import Engine

NO_COPY = "auto-no-copy"
UNPACKED = "unpacked"


def no_copy_method(engine: Engine) -> EngineMethod:
    """`auto` on the target of `engine`, with drafts of its own that make no copy."""
    drafts = Drafts(engine.target, may_copy=False)
    return EngineMethod(NO_COPY, engine.with_drafts(drafts), "auto")


def unpacked_method(engine: Engine, folder: Path) -> EngineMethod:
    """Plain decoding of the model in `folder`, which is loaded once more."""
    target = engine.target
    plain = Engine.load(
        folder,
        dtype=target.dtype,
        device=str(target.device),
        draft=VANILLA,
        remember=False,
        pack=False,
    )
    return EngineMethod(UNPACKED, plain, VANILLA)
