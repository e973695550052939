"""`selfdraft generate`: what is on stdout, what is on stderr, and what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as transformers_logging
from typer.testing import Result

import selfdraft.engine
from selfdraft import Engine

Run = Callable[..., Result]

STATS = {
    "num_prompt_tokens",
    "num_new_tokens",
    "num_rounds",
    "num_drafted",
    "num_accepted",
    "num_accepted_siblings",
    "acceptance_rate",
    "mean_accepted_length",
    "prefill_seconds",
    "decode_seconds",
    "draft_seconds",
    "verify_seconds",
    "tokens_per_second",
}


def stdout_of(result: Result) -> str:
    """The exact stdout; `Result.stdout` changes line ends."""
    return result.stdout_bytes.decode()


def as_chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_stdout_is_the_text_and_nothing_else(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards scripts: a banner, a table or an added line break on stdout would spoil them."""
    result = run("generate", tiny, "hello", "--max-new-tokens", 16)
    assert result.exit_code == 0
    assert stdout_of(result) == engine.generate(as_chat("hello"), max_new_tokens=16).text


def test_json_is_one_document_with_every_statistic(run: Run, tiny: Path) -> None:
    """Guards programs that read the document: a missing key, or text written beside it."""
    streamed = stdout_of(run("generate", tiny, "hello", "--max-new-tokens", 16))
    result = run("generate", tiny, "hello", "--max-new-tokens", 16, "--json", "--logprobs", 2)
    document = json.loads(stdout_of(result))
    assert document.keys() >= {"text", "token_ids", "finish_reason", "stats", "logprobs"}
    assert document.keys() >= {"model", "dtype", "device", "draft", "selfdraft_version"}
    assert document["stats"].keys() >= STATS
    assert document["text"] == streamed
    assert len(document["token_ids"]) == document["stats"]["num_new_tokens"] == 16
    assert len(document["logprobs"][0]["top"]) == 2


def test_options_reach_the_engine(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards against an option that is accepted and ignored, or passed on under another's name."""
    options = {
        "max_new_tokens": 16,
        "temperature": 0.9,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.01,
        "repetition_penalty": 1.3,
        "seed": 5,
    }
    flags = [part for key, v in options.items() for part in (f"--{key.replace('_', '-')}", v)]
    expected = engine.generate(as_chat("hello"), **options).text
    assert stdout_of(run("generate", tiny, "hello", *flags)) == expected
    cut = run("generate", tiny, "hello", *flags, "--stop", expected[4:6], "--stop", "never")
    assert stdout_of(cut) == expected[: expected.index(expected[4:6])]


def test_the_draft_does_not_change_the_text(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Guards the promise of the library, at its outermost door and with an absurd skip set."""
    (tmp_path / "all.json").write_text('{"attention": [1, 2, 3], "mlp": [1, 2, 3]}')
    (tmp_path / "many.json").write_text('{"a": {"attention": [1], "mlp": []}, "b": {}}')
    drafts: list[tuple[object, ...]] = [
        ("--draft", "off"),
        ("--draft", "swift"),
        ("--skip-ratio", 1),
        ("--skip-set", tmp_path / "all.json"),
        ("--skip-set", f"{tmp_path / 'many.json'}#a"),
    ]
    texts = {stdout_of(run("generate", tiny, "hi", "--max-new-tokens", 12, *d)) for d in drafts}
    assert len(texts) == 1


@pytest.mark.parametrize("dash", [(), ("-",)])
def test_the_prompt_may_come_through_a_pipe(run: Run, tiny: Path, dash: tuple[str, ...]) -> None:
    """Guards `echo hello | selfdraft generate`: echo's line break is not part of the prompt."""
    piped = run("generate", tiny, *dash, "--json", "--max-new-tokens", 4, stdin="hello\n")
    given = run("generate", tiny, "hello", "--json", "--max-new-tokens", 4)
    assert json.loads(piped.stdout)["token_ids"] == json.loads(given.stdout)["token_ids"]


def test_raw_and_system_decide_what_the_model_reads(run: Run, tiny: Path, engine: Engine) -> None:
    """Guards the chat template: applied unless `--raw`, with the system message in front."""
    assert engine.tokenizer is not None
    few = ("--json", "--max-new-tokens", 1)
    system = {"role": "system", "content": "be brief"}
    lengths = [
        json.loads(run("generate", tiny, "hello", *few, *more).stdout)["stats"]["num_prompt_tokens"]
        for more in ((), ("--raw",), ("--system", "be brief"))
    ]
    assert lengths == [
        engine.generate(prompt, max_new_tokens=1).stats.num_prompt_tokens
        for prompt in (as_chat("hello"), "hello", [system, *as_chat("hello")])
    ]


def test_a_model_without_template_continues_the_prompt(run: Run, without_template: Path) -> None:
    """Guards base models: no template is no error, but a system message then has no place."""
    few = ("--json", "--max-new-tokens", 2)
    plain = json.loads(run("generate", without_template, "hello", *few).stdout)
    assert plain == json.loads(run("generate", without_template, "hello", "--raw", *few).stdout) | {
        "stats": plain["stats"]
    }
    refused = run("generate", without_template, "hello", "--system", "x")
    assert (refused.exit_code, "chat template" in refused.stderr) == (2, True)


def test_stderr_has_statistics_unless_told_otherwise(run: Run, tiny: Path) -> None:
    """Guards `--no-stats` and `--quiet`, and each figure that the table should show."""
    few = ("generate", tiny, "hello", "--max-new-tokens", 8)
    table = run(*few, "--draft", "swift").stderr
    words = ("prompt tokens", "8 new tokens", "rounds", "mean accepted length M", "drafted")
    words += ("accepted", "acceptance rate", "draft 0.", "verify 0.", "tokens/s")
    assert [word for word in words if word not in table] == []
    assert "swift: skips 2 attention + 1 MLP sublayers (of 6)" in table
    assert "auto: " in run(*few).stderr
    assert run(*few, "--no-stats").stderr == run(*few, "--quiet").stderr == ""


def test_compare_shows_both_and_says_that_they_agree(run: Run, tiny: Path) -> None:
    """Guards the demo: vanilla really runs, on the same request, and is compared."""
    few = ("generate", tiny, "hello", "--max-new-tokens", 12, "--compare")
    table = run(*few, "--draft", "swift").stderr
    assert all(word in table for word in ("vanilla", "with the draft", "speedup", "tokens/s"))
    assert "output identical: yes, all 12 tokens" in table
    document = json.loads(run(*few, "--json").stdout)
    assert document["is_identical"] is True
    assert document["vanilla"]["stats"]["num_rounds"] == 12
    assert document["vanilla"]["token_ids"] == document["token_ids"]


def test_ctrl_c_keeps_what_was_written(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards an interrupted answer: statistics, exit code 130 and no traceback."""
    whole = stdout_of(run("generate", tiny, "hello", "--max-new-tokens", 16))
    interrupt_after(monkeypatch, num_rounds=5)
    result = run("generate", tiny, "hello", "--max-new-tokens", 16)
    assert result.exit_code == 130
    assert 0 < len(stdout_of(result)) < len(whole)
    assert whole.startswith(stdout_of(result))
    assert "interrupted" in result.stderr
    document = json.loads(run("generate", tiny, "hello", "--json", "--compare").stdout)
    assert document["finish_reason"] is None


def test_what_is_switched_on_is_switched_off(run: Run, tiny: Path) -> None:
    """Guards programs that call the command in their own process: threads and log levels."""
    transformers_logging.set_verbosity_warning()
    before = (torch.get_num_threads(), transformers_logging.get_verbosity())
    assert run("generate", tiny, "hi", "--threads", 2, "--max-new-tokens", 1).exit_code == 0
    assert run("generate", tiny, "", "--threads", 2).exit_code == 2
    assert (torch.get_num_threads(), transformers_logging.get_verbosity()) == before


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(tiny: Path) -> None:
    """Guards `selfdraft generate ... | head -1`: it stops writing, and says nothing about it."""
    command = [sys.executable, "-c", "from selfdraft.cli.app import main; main()"]
    arguments = ["generate", str(tiny), "hello", "--max-new-tokens", "900", "--threads", "1"]
    with subprocess.Popen(
        command + arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.slow
def test_a_terminal_gets_a_line_end_and_colour(tiny: Path) -> None:
    """Guards what only a terminal sees: drafted tokens in green, the prompt of the shell below."""
    code = (
        "import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', "
        "'from selfdraft.cli.app import main; main()', *sys.argv[1:]]) >> 8)"
    )
    arguments = ["generate", str(tiny), "hello", "--max-new-tokens", "24", "--color-drafted"]
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--quiet"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "NO_COLOR": ""},
        check=True,
    ).stdout
    assert b"\x1b[32m" in shown
    assert shown.endswith(b"\r\n")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, num_rounds: int) -> None:
    """Press Ctrl-C after so many rounds of every generation."""
    speculate = selfdraft.engine.speculate

    def interrupted(*arguments: object) -> Iterator[object]:
        for number, one_round in enumerate(speculate(*arguments)):  # type: ignore[arg-type]
            if number == num_rounds:
                raise KeyboardInterrupt
            yield one_round

    monkeypatch.setattr(selfdraft.engine, "speculate", interrupted)
