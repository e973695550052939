"""selfdraft: faster generation with exactly the same output; the draft is the model itself.

Example:
    >>> from selfdraft import Engine
    >>> engine = Engine.load("smollm2-135m")
    >>> engine.generate("The capital of France is", max_new_tokens=32).text
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfdraft.drafting.draft_config import DraftConfig
    from selfdraft.engine import Engine
    from selfdraft.errors import SelfdraftError
    from selfdraft.generation import Generation, Result
    from selfdraft.model.skip_set import SkipSet
    from selfdraft.text.text_stream import Piece
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

# Names are imported when they are first used: torch takes seconds, and `selfdraft --help` needs
# none of it (PEP 562).
_MODULES = {
    "DraftConfig": "selfdraft.drafting.draft_config",
    "Engine": "selfdraft.engine",
    "Generation": "selfdraft.generation",
    "Piece": "selfdraft.text.text_stream",
    "Result": "selfdraft.generation",
    "SelfdraftError": "selfdraft.errors",
    "SkipSet": "selfdraft.model.skip_set",
    "custom_generate": "selfdraft.transformers_bridge",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'selfdraft' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
