"""A single token as text and as bytes, for log-probabilities."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import cast

from transformers import PreTrainedTokenizerBase

_REPLACEMENT = "\ufffd"
_WORD_START = "\u2581"
"""What SentencePiece writes for the space before a word."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")

_MAX_CACHED = 16_384


@dataclass(frozen=True, slots=True)
class TokenText:
    """What one token writes."""

    text: str
    """For a token that is no whole character, its bytes as OpenAI writes them: `bytes:\\xe2`."""
    raw: bytes
    is_whole: bool
    """Whether the bytes are characters by themselves."""


class TokenTexts:
    """The tokens of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer = tokenizer
        self.of = lru_cache(_MAX_CACHED)(self._of)

    def _of(self, token_id: int) -> TokenText:
        if self._tokenizer is None:
            return TokenText(f"token_id:{token_id}", b"", is_whole=False)
        name = self._tokenizer.convert_ids_to_tokens(token_id)
        name = name if isinstance(name, str) else ""
        text = cast(
            str,
            self._tokenizer.decode(
                [token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False
            ),
        )
        if name.startswith(_WORD_START) and not text.startswith(" "):
            text = " " + text
        if _REPLACEMENT not in text:
            return TokenText(text, text.encode(), is_whole=True)
        raw = _bytes_of(name)
        if raw is None:  # a token that is this very character
            return TokenText(text, text.encode(), is_whole=True)
        escaped = "".join(f"\\x{byte:02x}" for byte in raw)
        return TokenText(f"bytes:{escaped}", raw, is_whole=False)


def _bytes_of(name: str) -> bytes | None:
    """The bytes of a token of a byte-level vocabulary; None if its name does not tell them."""
    if match := _BYTE.fullmatch(name):
        return bytes([int(match[1], 16)])
    alphabet = _byte_alphabet()
    if name and all(character in alphabet for character in name):
        return bytes(alphabet[character] for character in name)
    return None


@cache
def _byte_alphabet() -> Mapping[str, int]:
    """GPT-2's characters for bytes: those that can be seen are themselves, the rest follow 255."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in visible]
    table = {chr(byte): byte for byte in visible}
    table |= {chr(0x100 + index): byte for index, byte in enumerate(hidden)}
    return MappingProxyType(table)
