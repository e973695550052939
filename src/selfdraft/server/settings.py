"""What the server is told, each default once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfdraft.config import require

if TYPE_CHECKING:  # torch takes seconds to import, and these numbers need none of it
    from selfdraft.drafts import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the server answers, apart from where it listens."""

    served_model_name: str
    draft: "Draft" = "auto"  # what drafts, unless a request says otherwise
    api_key: str | None = None  # None: whoever reaches the server may use it
    max_queue: int = 64  # requests that wait; more are refused
    max_running: int = 8  # requests that take turns; each has its cache in memory
    max_model_len: int | None = None  # tokens of prompt and output; None: the model's context
    max_body_bytes: int = 1_000_000
    cors_origins: tuple[str, ...] = ()  # none: pages of other origins may not call the API
    log_prompts: bool = False
    shutdown_seconds: float = 8.0  # for requests that run when the server is told to end

    def __post_init__(self) -> None:
        require(bool(self.served_model_name), "served_model_name is empty: give the model a name")
        require(self.api_key != "", "api_key is empty: give a key, or leave it out")
        require(self.max_queue >= 0, f"max_queue is {self.max_queue}: give 0 or more")
        require(self.max_running >= 1, f"max_running is {self.max_running}: give 1 or more")
        require(
            self.max_model_len is None or self.max_model_len >= 2,
            f"max_model_len is {self.max_model_len}: give 2 or more, or leave it out",
        )
        require(
            self.max_body_bytes >= 1, f"max_body_bytes is {self.max_body_bytes}: give 1 or more"
        )
        require(
            0 <= self.shutdown_seconds < float("inf"),
            f"shutdown_seconds is {self.shutdown_seconds}: give 0 or more",
        )
