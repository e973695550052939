"""Tokenizers as they are found: without templates, pads or whole characters."""

import functools
import itertools

import pytest
from decoding_runs import Script
from families import FAMILIES, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_prompt, text_engine, tiny_engine, tiny_model, transformers_greedy
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from selfdraft import DraftConfig, Engine
from selfdraft.errors import PromptError
from selfdraft.text.text_stream import Detokenizer

_SPACE = "\u2581"
_REPLACEMENT = "\ufffd"
_WORDS = (_SPACE, *"abcdehlorstw", f"{_SPACE}the", "é")
TEXTS = (
    "the cat",
    "日本語 and 한국어",
    "a 👩‍🚀 b",
    "🇯🇵🇩🇪",
    "naïve é — ok",
    "\U0001d518\U0001d52b",
    "\u0e01\u0e33 the",
)


@functools.cache
def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2, Mistral and Gemma have it: what is not in the vocabulary is written in bytes."""
    tokens = ["<unk>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


@functools.cache
def byte_fallback_engine() -> Engine:
    tokenizer = byte_fallback_tokenizer()
    return Engine(
        tiny_model(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id), tokenizer
    )


@pytest.mark.parametrize("make_engine", [text_engine, byte_fallback_engine])
@pytest.mark.parametrize("draft", ["off", DraftConfig.chain(4)], ids=["off", "chain"])
@pytest.mark.parametrize("text", TEXTS)
def test_streamed_pieces_are_whole_characters(
    text: str, draft: DraftConfig | str, make_engine: object
) -> None:
    """Guards against half a character in a piece, and characters that are swallowed or doubled.

    Their bytes come in several tokens, accepted at once or one by one.
    """
    engine = make_engine()
    token_ids = engine.tokenizer(text).input_ids
    prompt = engine.tokenizer("the").input_ids
    script = Script(len(prompt), [*token_ids, engine.tokenizer.eos_token_id])
    generation = engine.stream(prompt, draft=draft, logits_processors=[script])
    pieces = list(generation)
    shown = "".join(piece.text for piece in pieces)
    both = engine.tokenizer.decode([*prompt, *token_ids], skip_special_tokens=True)
    assert shown == generation.result.text == both.removeprefix("the")
    assert shown.removeprefix(" ") == engine.tokenizer.decode(token_ids) == text
    assert not any(_REPLACEMENT in piece.text for piece in pieces)
    written = itertools.chain.from_iterable(piece.token_ids for piece in pieces)
    assert tuple(written) == generation.result.token_ids
    assert generation.result.finish_reason == "eos"


def test_the_fallback_really_splits_characters() -> None:
    """Guards the test above: a vocabulary that holds whole characters would show nothing."""
    assert len(byte_fallback_tokenizer()("日👩").input_ids) == 1 + 3 + 4


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8", exclude_characters=_SPACE + _REPLACEMENT), max_size=12))
def test_any_text_comes_back_from_bytes(text: str) -> None:
    """Guards against runs of bytes that the decoder turns into signs as a whole.

    One incomplete character at the end of a run hides the complete ones before it.
    """
    tokenizer = byte_fallback_tokenizer()
    token_ids = tokenizer(text).input_ids
    detokenizer = Detokenizer(tokenizer)
    pieces = [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]
    assert "".join(pieces) == tokenizer.decode(token_ids)
    assert not any(_REPLACEMENT in piece for piece in pieces)


def test_a_text_cut_inside_a_character_keeps_the_whole_ones() -> None:
    """Guards against a length limit in the middle of a character that spoils those before it."""
    engine = byte_fallback_engine()
    token_ids = engine.tokenizer("日本").input_ids
    prompt = engine.tokenizer("the").input_ids
    result = engine.generate(
        prompt,
        logits_processors=[Script(len(prompt), token_ids)],
        max_new_tokens=len(token_ids) - 1,
    )
    assert result.text.rstrip(_REPLACEMENT) == " 日"
    assert result.finish_reason == "length"


def test_no_chat_template() -> None:
    """Guards against a chat that is flattened into some text nobody trained on."""
    engine = byte_fallback_engine()
    assert engine.tokenizer.chat_template is None
    with pytest.raises(PromptError, match="no chat template"):
        engine.generate([{"role": "user", "content": "the"}], max_new_tokens=2)
    assert len(engine.generate("the", max_new_tokens=2).token_ids) <= 2


def test_no_pad_token() -> None:
    """Guards against padding that needs a token for it: neither model nor tokenizer has one."""
    engine = byte_fallback_engine()
    assert engine.tokenizer.pad_token_id is None
    assert engine.target.model.config.pad_token_id is None
    drafted = engine.generate("the cat", max_new_tokens=8, draft=DraftConfig.chain(3))
    assert drafted.token_ids == engine.generate("the cat", max_new_tokens=8, draft="off").token_ids


@pytest.mark.parametrize("draft", ["off", DraftConfig.chain(4)], ids=["off", "chain"])
@pytest.mark.parametrize("cut", [2, 5])
def test_any_of_several_end_tokens_ends(cut: int, draft: DraftConfig | str) -> None:
    """Guards against a chat model's second end token, which is written and runs on."""
    prompt = make_prompt(6)
    text = transformers_greedy(tiny_engine().target.model, prompt, 8)
    assert text.index(text[cut]) == cut, "the end token comes up only there"
    never = next(token for token in range(96) if token not in text)
    model = tiny_model()
    model.generation_config.eos_token_id = [never, text[cut]]
    result = Engine(model).generate(prompt, draft=draft, max_new_tokens=8)
    assert result.token_ids == text[: cut + 1]
    assert result.finish_reason == "eos"


def test_tokenizer_with_fewer_tokens_than_the_model() -> None:
    """Guards against a padded vocabulary: an id that the tokenizer does not know shows no text."""
    engine = Engine(tiny(FAMILIES[0]), byte_fallback_tokenizer())
    assert engine.generate([5, 9, 3], max_new_tokens=4).token_ids
