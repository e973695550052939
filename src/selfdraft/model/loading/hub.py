"""Models of the Hugging Face hub, as folders of the hub's own cache.

`from_pretrained` would take a hub id, but asks the hub about every file, and without a network
waits 23 seconds for each. One call of `snapshot_download` answers at once: there, in the cache, or
neither.
"""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from selfdraft.errors import ModelNotFoundError
from selfdraft.storage.progress import first_line

# A connection that breaks raises an error of the HTTP library, which the hub changes now and then.
_TRANSPORT_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]

# Not the same weights again in other formats (consolidated, ONNX, GGUF), nor what lies in folders.
_DESCRIPTION = ["*.json", "*.jinja", "*.txt", "*.model"]
_SAFETENSORS = ["model*.safetensors"]
_PICKLES = ["pytorch_model*.bin"]


def download_from_hub(repo_id: str) -> Path:
    """The folder of the newest revision of `repo_id`; without a network, of the newest cached one.

    Raises:
        ModelNotFoundError: there is no such repository, or it can neither be reached nor cached.
    """
    try:
        folder = _snapshot(repo_id, _SAFETENSORS)
        if not any(folder.glob("*.safetensors")):
            folder = _snapshot(repo_id, _PICKLES)
    except (OSError, _TRANSPORT_ERROR, HFValidationError) as error:
        raise ModelNotFoundError(
            f"no model {repo_id!r}: there is no such file or folder, and as a Hugging Face hub id "
            f"it {_reason(error)}"
        ) from error
    return folder


def _snapshot(repo_id: str, weights: list[str]) -> Path:
    wanted = [*_DESCRIPTION, *weights]
    return Path(snapshot_download(repo_id, allow_patterns=wanted, ignore_patterns=["*/*"]))


def _reason(error: Exception) -> str:
    if isinstance(error, HFValidationError):
        return "is malformed (it should be ORGANISATION/NAME)"
    if isinstance(error, GatedRepoError):
        return "is gated: accept its licence on huggingface.co, then run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "does not exist, or is private: check the spelling, or run `hf auth login`"
    return f"cannot be reached and is not cached ({first_line(error)}): check the network"
