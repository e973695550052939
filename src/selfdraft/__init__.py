"""selfdraft: faster generation with exactly the same output; the draft is the model itself.

Example:
    >>> from selfdraft import Engine
    >>> engine = Engine.load("smollm2-135m")
    >>> engine.generate("The capital of France is", max_new_tokens=32).text
"""

from importlib.metadata import version

from selfdraft.drafting.draft_config import DraftConfig
from selfdraft.engine import Engine, Generation, Result
from selfdraft.errors import SelfdraftError
from selfdraft.model.skip_set import SkipSet
from selfdraft.text_stream import Piece
from selfdraft.transformers_bridge import custom_generate

__version__ = version("selfdraft")

__all__ = [
    "DraftConfig",
    "Engine",
    "Generation",
    "Piece",
    "Result",
    "SelfdraftError",
    "SkipSet",
    "__version__",
    "custom_generate",
]
