"""Streaming: the pieces are the result, and a consumer may leave whenever it likes."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from decoding_runs import Script
from tiny_models import DRAFTS, TREE, byte_tokenizer, make_prompt, text_engine, tiny_engine

from selfdraft import DraftConfig, Engine, Result

TEXT = "thé 日本 €uro 👋🏽 the END"
CHAINS = {"off": "off", "chain of 2": DraftConfig.chain(2), "chain of 7": DraftConfig.chain(7)}


def stream_text(text: str, draft: DraftConfig | str, **options: object) -> tuple[list, Result]:
    """The pieces of a stream whose model is made to write `text`."""
    tokens = byte_tokenizer()(text).input_ids
    script = Script(len(byte_tokenizer()("the").input_ids), tokens)
    options = {"max_new_tokens": len(tokens), **options}
    generation = text_engine().stream("the", draft=draft, logits_processors=[script], **options)
    return list(generation), generation.result


@pytest.mark.parametrize("draft", CHAINS.values(), ids=CHAINS)
def test_pieces_add_up_to_the_result(draft: DraftConfig | str) -> None:
    """Guards against text or tokens that are lost or said twice between pieces."""
    pieces, result = stream_text(TEXT, draft)
    assert "".join(piece.text for piece in pieces) == result.text == TEXT
    assert [i for piece in pieces for i in piece.token_ids] == list(result.token_ids)
    assert len(pieces) > 5


@pytest.mark.parametrize("draft", CHAINS.values(), ids=CHAINS)
def test_no_broken_character_is_shown(draft: DraftConfig | str) -> None:
    """Guards against a character of several tokens that is shown in halves."""
    pieces, _ = stream_text(TEXT, draft)
    assert all("\ufffd" not in piece.text for piece in pieces)


def test_broken_character_at_the_end_is_shown_as_such() -> None:
    """Guards against the bytes of an unfinished character that vanish."""
    tokens = byte_tokenizer()("ab日").input_ids[:-1]
    script = Script(1, tokens)
    result = text_engine().generate([5], logits_processors=[script], max_new_tokens=len(tokens))
    assert result.text == byte_tokenizer().decode(tokens) == "ab\ufffd"


def test_text_is_that_of_decoding_all_tokens() -> None:
    """Guards against text that depends on where the pieces were cut, on random bytes too."""
    for seed in range(4):
        result = text_engine().generate(
            make_prompt(5, seed=seed), draft=TREE, max_new_tokens=24, temperature=1.5, seed=seed
        )
        tokens = [i for i in result.token_ids if i != byte_tokenizer().eos_token_id]
        assert result.text == byte_tokenizer().decode(tokens, skip_special_tokens=True)


def test_without_a_tokenizer_a_piece_is_a_token() -> None:
    """Guards against token streams that wait for text that never comes."""
    pieces = list(tiny_engine().stream(make_prompt(4), draft=TREE, max_new_tokens=9))
    assert [len(piece.token_ids) for piece in pieces] == [1] * 9
    assert {piece.text for piece in pieces} == {""}


def test_from_draft_tells_drafted_tokens() -> None:
    """Guards against pieces that claim a draft for the target's own bonus token."""
    pieces, result = stream_text("abcdefghij", DraftConfig.chain(4))
    assert [piece.from_draft for piece in pieces] == [True] * 4 + [False] + [True] * 4 + [False]
    assert sum(piece.from_draft for piece in pieces) == result.stats.num_accepted


def test_sources_tell_who_named_a_token() -> None:
    """Guards against a draft that is credited with what another named."""
    pieces, result = stream_text("abcdefghij", DraftConfig.chain(4))
    sources = [source for piece in pieces for source in piece.sources]
    assert sources == [*["model"] * 4, "target"] * 2
    pieces, result = stream_text("to be or not " * 12, "suffix")
    sources = [source for piece in pieces for source in piece.sources]
    assert set(sources) == {"text", "target"}
    assert sources.count("text") == result.stats.num_accepted > 0


def test_a_step_is_one_round() -> None:
    """Guards against a step that decodes until text comes: other requests would wait for it."""
    engine = tiny_engine()
    expected = engine.generate(make_prompt(6), draft=TREE, max_new_tokens=16)
    generation = engine.stream(make_prompt(6), draft=TREE, max_new_tokens=16)
    steps = []
    while not generation.is_finished:
        steps.append(generation.step())
        assert generation.result.stats.num_rounds == len(steps)
    assert len(steps) == expected.stats.num_rounds
    assert [i for step in steps for p in step for i in p.token_ids] == [*expected.token_ids]
    assert generation.step() == []


def test_a_closed_generation_keeps_what_it_wrote() -> None:
    """Guards against a cancelled request that goes on, or forgets its beginning."""
    generation = tiny_engine().stream(make_prompt(6), draft=TREE, max_new_tokens=64)
    generation.step()
    before = generation.result
    generation.close()
    assert generation.step() == []
    assert generation.result == before
    assert before.token_ids
    assert before.finish_reason is None


@pytest.mark.parametrize("num_taken", [0, 1, 3, 8])
def test_leaving_a_stream_changes_nothing(num_taken: int) -> None:
    """Guards against an engine that is left in the middle of a draft."""
    engine = tiny_engine()
    prompt = make_prompt(6)
    expected = engine.generate(prompt, draft=TREE, max_new_tokens=16)
    generation = engine.stream(prompt, draft=TREE, max_new_tokens=16)
    for _ in range(num_taken):
        next(generation)
    partial = generation.result
    assert partial.finish_reason is None
    assert partial.token_ids == expected.token_ids[: len(partial.token_ids)]
    del generation
    gc.collect()
    again = engine.generate(prompt, draft=TREE, max_new_tokens=16)
    assert again.token_ids == expected.token_ids
    assert again.stats.num_rounds == expected.stats.num_rounds


def test_streams_of_one_engine_can_be_mixed() -> None:
    """Guards against anything shared between two requests."""
    engine = tiny_engine()
    first = engine.stream(make_prompt(6), draft=TREE, max_new_tokens=12)
    second = engine.stream(make_prompt(9), draft=DRAFTS["chain"], max_new_tokens=12)
    for _ in zip(first, second, strict=True):
        pass
    for stream, prompt in ((first, make_prompt(6)), (second, make_prompt(9))):
        expected = engine.generate(prompt, draft="off", max_new_tokens=12)
        assert stream.result.token_ids == expected.token_ids


def test_threads_give_the_same_as_alone() -> None:
    """Guards against state that two requests share while they run at once."""
    engine = Engine(tiny_engine().target.model)
    jobs = [
        {"prompt": make_prompt(5 + i), "draft": draft, "temperature": t, "seed": i}
        for i, (draft, t) in enumerate(
            [(TREE, 0.0), (DRAFTS["attention skipped"], 0.8), ("off", 0.8), (TREE, 1.0)]
        )
    ]

    def generate(job: dict[str, object]) -> tuple[int, ...]:
        return engine.generate(**job, max_new_tokens=20).token_ids

    alone = [generate(job) for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(generate, jobs)) == alone
