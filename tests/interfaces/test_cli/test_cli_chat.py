"""`selfdraft chat`, driven through a pipe: one message or command per line."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

import selfdraft.engine
from selfdraft import Engine
from selfdraft.drafting.free.earlier_texts import EarlierTexts

Run = Callable[..., Result]
BRIEF = ("--max-new-tokens", 6)


def answers(engine: Engine, *questions: str, system: str | None = None) -> list[str]:
    """What the Python API answers, with the conversation so far as its prompt."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    texts = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        texts.append(engine.generate(messages, max_new_tokens=6).text)
        messages.append({"role": "assistant", "content": texts[-1]})
    return texts


def stdout_of(result: Result) -> str:
    return result.stdout_bytes.decode()


def test_the_history_is_part_of_the_next_prompt(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards the memory of a chat; and stdout, which holds the answers and nothing else."""
    result = run("chat", tiny, *BRIEF, stdin="hello\n\nand then?\n")
    assert result.exit_code == 0
    assert stdout_of(result) == "".join(a + "\n" for a in answers(engine, "hello", "and then?"))
    assert answers(engine, "and then?")[0] != answers(engine, "hello", "and then?")[1]


def test_reset_forgets_and_keeps_the_system_message(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards /reset, /system and --system, each by its effect on the answer."""
    stdin = "hello\n/reset\nhello\n/system be kind\n/reset\nhello\n/exit\nnever read\n"
    result = run("chat", tiny, *BRIEF, "--system", "be brief", stdin=stdin)
    brief, kind = (answers(engine, "hello", system=s)[0] for s in ("be brief", "be kind"))
    assert brief != kind
    assert stdout_of(result) == f"{brief}\n{brief}\n{kind}\n"


def test_copies_from_earlier_conversations_are_an_option(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards --copy-earlier-texts: it reaches the drafts, changes no answer, and is off unasked."""
    kept: list[Sequence[int]] = []
    monkeypatch.setattr(EarlierTexts, "add", lambda _, token_ids: kept.append(token_ids))
    stdin = "hello\n/reset\nhello\n"
    plain = run("chat", tiny, *BRIEF, stdin=stdin)
    assert kept == []
    copied = run("chat", tiny, *BRIEF, "--copy-earlier-texts", stdin=stdin)
    assert stdout_of(copied) == stdout_of(plain)
    assert len(kept) == 2


def test_commands_answer_on_stderr(run: Run, tiny: Path) -> None:
    """Guards the commands that show something, before and after there is an answer."""
    stdin = "/help\n/stats\nhello\n/stats\n/draft\n/draft off\n/system\n"
    result = run("chat", tiny, *BRIEF, "--dtype", "bfloat16", stdin=stdin)
    assert result.exit_code == 0
    assert all(f"/{name}" in result.stderr for name in ("reset", "system", "draft", "save", "exit"))
    assert "error: there is no answer yet" in result.stderr
    assert "6 new tokens" in result.stderr
    assert "(auto: 4-bit weights)" in result.stderr
    assert "off: plain decoding" in result.stderr
    assert "system message: none" in result.stderr


def test_a_wrong_command_does_not_end_the_chat(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards against a typo that costs the conversation, or is sent to the model."""
    stdin = "/rset\n/draft fast\n/save\n/save /no/such/folder/file\nhello\n"
    result = run("chat", tiny, *BRIEF, stdin=stdin)
    assert result.exit_code == 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    drafts = "auto, swift, suffix, recycling, off"
    words = ("unknown command /rset: /help", drafts, "/save FILE", "cannot write")
    assert [word in error for word, error in zip(words, errors, strict=True)] == [True] * 4
    assert stdout_of(result) == answers(engine, "hello")[0] + "\n"


def test_a_message_may_begin_with_a_slash(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards the way out that /help names: a space in front."""
    result = run("chat", tiny, *BRIEF, stdin=" /etc\n")
    assert stdout_of(result) == answers(engine, "/etc")[0] + "\n"


def test_save_writes_the_conversation(run: Run, tiny: Path, engine: Engine, tmp_path: Path) -> None:
    """Guards the file: the messages as any chat API takes them."""
    file = tmp_path / "chat.json"
    run("chat", tiny, *BRIEF, "--system", "x", stdin=f"hello\n/save {file}\n")
    assert json.loads(file.read_text("utf-8"))["messages"] == [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": answers(engine, "hello", system="x")[0]},
    ]


def test_a_full_context_is_said_and_survived(run: Run, short_context: Path) -> None:
    """Guards long conversations: a clear word, nothing lost, and /reset helps."""
    stdin = "hello\n" + "x" * 60 + "\n/reset\nhello\n" + "y" * 22 + "\n"
    result = run("chat", short_context, "--max-new-tokens", 9, stdin=stdin)
    assert result.exit_code == 0
    first, *rest = stdout_of(result).split("\n")  # the texts hold signs that Python splits at
    assert first == rest[0]  # the message that did not fit left no trace
    refused = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "context 48" in refused
    assert "/reset" in refused


def test_an_answer_that_fills_the_context_says_so(run: Run, short_context: Path) -> None:
    """Guards against an answer that breaks off without a reason."""
    result = run("chat", short_context, stdin="hello there\n")
    assert "the model's context is full; /reset" in result.stderr
    cut = run("chat", short_context, "--max-new-tokens", 2, stdin="hello\n")
    assert "(cut after 2 tokens: --max-new-tokens allows no more)" in cut.stderr


def test_ctrl_c_stops_the_answer_and_not_the_chat(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards an interrupted answer: its beginning is history, and the next message is answered."""
    monkeypatch.setattr(selfdraft.engine, "speculate", _interrupted_once(num_rounds=3))
    file = tmp_path / "chat.json"
    result = run("chat", tiny, "--draft", "off", stdin=f"hello\n/save {file}\nagain\n")
    assert result.exit_code == 0
    assert "(stopped after 4 tokens)" in result.stderr
    partial = json.loads(file.read_text("utf-8"))["messages"][1]["content"]
    assert stdout_of(result).startswith(partial + "\n")
    assert len(stdout_of(result)) > len(partial) + 20


def test_an_answer_stopped_before_its_first_word_leaves_no_trace(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the templates that insist on user and assistant taking turns."""
    monkeypatch.setattr(selfdraft.engine, "speculate", _interrupted_once(num_rounds=0))
    file = tmp_path / "chat.json"
    assert run("chat", tiny, stdin=f"hello\n/save {file}\n").exit_code == 0
    assert json.loads(file.read_text("utf-8"))["messages"] == []


def test_a_model_without_template_is_refused(run: Run, without_template: Path) -> None:
    """Guards base models against a conversation they cannot hold."""
    result = run("chat", without_template, stdin="hello\n")
    assert result.exit_code == 2
    assert "no chat template" in result.stderr
    assert "selfdraft generate" in result.stderr
    assert "--raw" in result.stderr


def _interrupted_once(num_rounds: int) -> Callable[..., Iterator[object]]:
    """`speculate`, with Ctrl-C after so many rounds of the first generation."""
    speculate = selfdraft.engine.speculate
    is_first = iter([True])

    def interrupted(*arguments: object) -> Iterator[object]:
        interrupts = next(is_first, False)
        for number, one_round in enumerate(speculate(*arguments)):  # type: ignore[arg-type]
            if interrupts and number == num_rounds:
                raise KeyboardInterrupt
            yield one_round

    return interrupted
