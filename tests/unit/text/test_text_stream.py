"""Tokens become text: whole characters, cut before stop strings, nothing lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import byte_tokenizer, framing_tokenizer
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from selfdraft.decoding.state import NewToken
from selfdraft.text.text_stream import Detokenizer, StopStrings, TextSink

texts = st.text(st.characters(codec="utf-8"), max_size=30)


def stream(tokenizer: PreTrainedTokenizerFast, token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


@given(texts)
def test_pieces_of_any_text_add_up(text: str) -> None:
    """Guards against characters lost or doubled where tokens meet."""
    pieces = stream(byte_tokenizer(), byte_tokenizer()(text).input_ids)
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@given(st.lists(st.integers(0, 268), max_size=40))
def test_pieces_of_any_tokens_add_up_to_decoding_them_at_once(token_ids: list[int]) -> None:
    """Guards against bytes that are no text, and special tokens, putting the pieces off."""
    expected = byte_tokenizer().decode(token_ids, skip_special_tokens=True)
    assert "".join(stream(byte_tokenizer(), token_ids)) == expected


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral have it: a token carries the space before its word, and decoding
    strips the very first one.
    """
    tokens = ["<end>", "<mark>", "\u2581the", "\u2581end", "s", "\u2581"]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, []))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", additional_special_tokens=["<mark>"]
    )


@pytest.mark.parametrize(
    "token_ids", [[2, 3, 4], [3, 5, 2], [2, 5, 5, 3], [5, 2], [1, 2, 3], [2, 1, 3], [2, 1, 1, 3, 2]]
)
def test_words_keep_the_spaces_between_them(token_ids: list[int]) -> None:
    """Guards against a space that is stripped because decoding started in the middle: after a
    special token, which shows no text, the next word would stick to the one before it.
    """
    tokenizer = sentencepiece_tokenizer()
    expected = tokenizer.decode(token_ids, skip_special_tokens=True)
    assert "".join(stream(tokenizer, token_ids)) == expected


def test_characters_come_whole() -> None:
    """Guards against the first bytes of a character shown as a replacement sign."""
    pieces = stream(byte_tokenizer(), byte_tokenizer()("a日b").input_ids)
    assert pieces == ["a", "", "", "日", "b", ""]


def cut(text: str, stops: list[str], sizes: list[int]) -> tuple[str, bool]:
    """`text` pushed in pieces of `sizes`, up to a stop string."""
    stop_strings = StopStrings(stops)
    shown, position = "", 0
    for size in [*sizes, len(text)]:
        piece, stopped = stop_strings.push(text[position : position + size])
        shown, position = shown + piece, position + size
        if stopped:
            return shown, True
    return shown + stop_strings.flush(), False


@given(
    text=st.text("ab", max_size=16),
    stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    sizes=st.lists(st.integers(1, 1), min_size=16, max_size=16),
)
def test_text_is_cut_before_the_first_stop_string_to_complete(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    """Guards against stop strings that overlap each other or themselves."""
    ends = [(text.index(s) + len(s), text.index(s)) for s in stops if s in text]
    if not ends:
        assert cut(text, stops, sizes) == (text, False)
        return
    first_end = min(end for end, _ in ends)
    start = min(start for end, start in ends if end == first_end)
    assert cut(text, stops, sizes) == (text[:start], True)


@given(
    text=st.text("ab", max_size=16),
    stop=st.text("ab", min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 4), max_size=16),
)
def test_pieces_do_not_matter_for_one_stop_string(text: str, stop: str, sizes: list[int]) -> None:
    """Guards against a stop string that is missed when it comes in pieces."""
    expected = (text.partition(stop)[0], stop in text)
    assert cut(text, [stop], sizes) == expected


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    """Guards against a stream that lags behind by the length of a stop string."""
    stop_strings = StopStrings(["STOP"])
    assert stop_strings.push("abc") == ("abc", False)
    assert stop_strings.push("S") == ("", False)
    assert stop_strings.push("T!") == ("ST!", False)
    assert stop_strings.push("xSTOy") == ("xSTOy", False)
    assert stop_strings.push("xSTO") == ("x", False)
    assert stop_strings.push("P and more") == ("", True)


def test_sink_gives_every_token_to_one_piece() -> None:
    """Guards against tokens whose text is held back and whose ids get lost."""
    tokenizer = byte_tokenizer()
    sink = TextSink(tokenizer, stop=["!!"], num_logprobs=0, eos_token_ids=frozenset([0]))
    token_ids = [*tokenizer("日a!b").input_ids, 0]
    for token_id in token_ids:
        sink.push(NewToken(token_id, "model", torch.zeros(4)))
    sink.finish()
    pieces = sink.take_pieces()
    assert [i for piece in pieces for i in piece.token_ids] == token_ids
    assert "".join(piece.text for piece in pieces) == "日a!b"
    assert sink.take_pieces() == []


def test_an_end_token_that_is_an_ordinary_token_is_not_shown() -> None:
    """Guards against models whose end token the tokenizer does not know as a special one."""
    tokenizer = byte_tokenizer()
    *written, end = tokenizer("ab!").input_ids
    sink = TextSink(tokenizer, stop=[], num_logprobs=0, eos_token_ids=frozenset([end]))
    for token_id in (*written, end):
        sink.push(NewToken(token_id, "target", torch.zeros(4)))
    sink.finish()
    assert "".join(piece.text for piece in sink.take_pieces()) == "ab"


def test_the_first_word_keeps_its_space_behind_a_prompt() -> None:
    """Guards against a completion that sticks to its prompt."""
    tokenizer = framing_tokenizer()
    prompt, world = [0, 4], tokenizer.convert_tokens_to_ids("\u2581world")
    assert Detokenizer(tokenizer).push(world) == "world"
    assert Detokenizer(tokenizer, prompt).push(world) == " world"
    sink = TextSink(
        tokenizer, stop=[" world"], num_logprobs=0, eos_token_ids=frozenset(), context=prompt
    )
    assert sink.push(NewToken(world, "target", torch.zeros(4)))


@pytest.mark.parametrize("num_bytes", [1, 2, 3])
def test_a_character_that_the_prompt_began(num_bytes: int) -> None:
    """Guards against a replacement sign where prompt and output meet."""
    tokenizer = byte_tokenizer()
    ids = tokenizer("a👩b").input_ids
    detokenizer = Detokenizer(tokenizer, ids[: 1 + num_bytes])
    pieces = [*(detokenizer.push(token) for token in ids[1 + num_bytes :]), detokenizer.flush()]
    assert "".join(pieces) == "👩b"


def test_a_character_that_never_came() -> None:
    """Guards against the prompt's own last bytes shown as a part of the output."""
    tokenizer = byte_tokenizer()
    began = tokenizer("a👩").input_ids[:3]
    detokenizer = Detokenizer(tokenizer, began)
    pieces = [*(detokenizer.push(token) for token in tokenizer("bc").input_ids)]
    assert "".join([*pieces, detokenizer.flush()]) == "bc"
    assert Detokenizer(tokenizer, began).flush() == ""


@given(st.lists(st.integers(0, 268), max_size=40), st.integers(0, 40))
def test_prompt_and_output_add_up_to_both(token_ids: list[int], start: int) -> None:
    """Guards against output that depends on more than what stands before it."""
    tokenizer = byte_tokenizer()
    whole = tokenizer.decode(token_ids, skip_special_tokens=True)
    before = tokenizer.decode(token_ids[:start], skip_special_tokens=True)
    detokenizer = Detokenizer(tokenizer, token_ids[:start])
    pieces = [*(detokenizer.push(token) for token in token_ids[start:]), detokenizer.flush()]
    if whole.startswith(before) and not before.endswith("\ufffd"):
        assert before + "".join(pieces) == whole


@pytest.mark.parametrize(
    ("stop", "written", "shown"),
    [
        ("<mark>", ["a", "<mark>", "b"], "a"),  # alone
        ("b<mark>", ["a", "b", "<mark>"], "a"),  # behind a text
        ("<mark>b", ["a", "<mark>", "b"], "a"),  # before one
        ("<mark>", ["<mark>"], ""),  # at once
    ],
)
def test_a_stop_string_that_is_a_special_token(stop: str, written: list[str], shown: str) -> None:
    """Guards against a stop that is never found, because no text shows it."""
    tokenizer = byte_tokenizer()
    sink = TextSink(tokenizer, stop=[stop], num_logprobs=0, eos_token_ids=frozenset())
    tokens = [
        NewToken(tokenizer.convert_tokens_to_ids(t), "target", torch.zeros(4)) for t in written
    ]
    ended = [sink.push(token) for token in tokens]
    assert True in ended
    if stop == "<mark>b":
        assert ended == [False, False, True]
    sink.finish()
    assert "".join(piece.text for piece in sink.take_pieces()) == shown


def test_a_special_token_that_is_no_stop_string_is_not_shown() -> None:
    """Guards against the name of a token in the text, held back and then let go."""
    tokenizer = byte_tokenizer()
    sink = TextSink(tokenizer, stop=["<mark>z"], num_logprobs=0, eos_token_ids=frozenset())
    for token in ["a", "<mark>", "b", "<mark>"]:
        sink.push(NewToken(tokenizer.convert_tokens_to_ids(token), "target", torch.zeros(4)))
    sink.finish()
    assert "".join(piece.text for piece in sink.take_pieces()) == "ab"
