"""Certificates on disk, so that a model is certified once and not at every load.

    <cache>/certificates/FINGERPRINT.json

A file is found by the exact fingerprint of a model, and carries a checksum of its content. It is
only a shortcut: whatever is wrong with it, the model is certified again. `SELFDRAFT_RECERTIFY=1`
does so in any case.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from selfdraft.model.structure.certificate import Certificate
from selfdraft.model.structure.fingerprint import Fingerprint
from selfdraft.storage.json_document import (
    DamagedDocumentError,
    read_document,
    set_aside,
    write_document,
)
from selfdraft.storage.model_cache import cache_home

_FORMAT = 1
_MOST_KEPT = 256  # files of some 20 kB; a notebook may make many models


def recall(fingerprint: Fingerprint) -> Certificate | None:
    """The certificate of a model with this fingerprint, if one is known and may be used."""
    if fingerprint.exact is None or os.environ.get("SELFDRAFT_RECERTIFY", "0") not in ("", "0"):
        return None
    file = _file(fingerprint.exact)
    try:
        document = read_document(file, format_number=_FORMAT)
        return None if document is None else _checked(document, fingerprint.exact)
    except DamagedDocumentError as error:
        set_aside(file, f"{error}; the model is certified again")
        return None


def remember(fingerprint: Fingerprint, certificate: Certificate) -> None:
    """Keep `certificate` for the next load; where nothing can be written, nothing is kept."""
    if fingerprint.exact is None:
        return
    file = _file(fingerprint.exact)
    content = certificate.to_document()
    document = {
        "fingerprint": fingerprint.exact,
        "sha256": _checksum(content),
        "certificate": content,
    }
    try:
        write_document(file, document, format_number=_FORMAT)
        _forget_oldest(file.parent)
    except OSError:  # a filled cache may be read-only, and its user has nothing to put right
        return


def _file(exact: str) -> Path:
    return cache_home() / "certificates" / f"{exact[:32]}.json"


def _checked(document: dict[str, Any], exact: str) -> Certificate:
    content = document.get("certificate")
    if document.get("fingerprint") != exact or document.get("sha256") != _checksum(content):
        raise DamagedDocumentError("its content is not what was written")
    try:
        return Certificate.from_document(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedDocumentError(f"its content cannot be read ({error})") from error


def _checksum(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _forget_oldest(folder: Path) -> None:
    files = list(folder.glob("*.json"))
    if len(files) > _MOST_KEPT:
        files.sort(key=lambda file: file.stat().st_mtime)
        for file in files[: -_MOST_KEPT // 2]:
            file.unlink(missing_ok=True)
