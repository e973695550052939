"""What a user does wrong: exit code 2, and one line that says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    line = result.stderr.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--temperature", "-1"), ("temperature is -1", "give 0")),
        (("--top-p", "2"), ("top_p is 2", "(0, 1]")),
        (("--top-k", "-1"), ("top_k is -1", "0 (off)")),
        (("--min-p", "2"), ("min_p is 2", "[0, 1]")),
        (("--repetition-penalty", "0"), ("repetition_penalty is 0", "above 0")),
        (("--max-new-tokens", "0"), ("max_new_tokens is 0", "1 or more")),
        (("--seed", "-1"), ("seed is -1", "whole number")),
        (("--stop", ""), ("empty string", "leave it out")),
        (("--threads", "0"), ("threads is 0", "1 or more")),
        (("--skip-ratio", "2"), ("skip_ratio is 2", "0 to 1")),
        (("--skip-ratio", "0.5", "--draft", "off"), ("--draft off", "leave it out")),
        (("--skip-ratio", "0.5", "--skip-set", "x"), ("--skip-set", "one of them")),
        (("--skip-set", "no-such-file.json"), ("no-such-file.json", "cannot read")),
        (("--raw", "--system", "x"), ("--raw", "leave out")),
        (("--logprobs", "2"), ("add --json",)),
        (("--compare", "--draft", "off"), ("--compare needs a draft",)),
        (("--compare", "--quiet"), ("--compare", "--quiet", "--json")),
    ],
)
def test_a_bad_value_is_refused_before_a_model_is_loaded(
    run: Run, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Guards against a traceback, and against waiting for a model only to hear about a typo."""
    assert_refused(run("generate", "./no-such-model", "hi", *options), *words)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", ("not valid JSON",)),
        ("[1, 2]", ('"attention"', '"mlp"')),
        ('{"attention": [1.5], "mlp": []}', ("layer indices are 0, 1, 2",)),
        ('{"attention": [0], "mlp": [1]}', ("layer 0", "the first layer always runs")),
        ('{"attention": [], "mlp": [99]}', ("layer 99", "the layers 0 to 4")),
        ('{"a": {"attention": [], "mlp": []}, "b": {"attention": [], "mlp": []}}', ("#NAME",)),
    ],
)
def test_a_bad_skip_set_is_refused(
    run: Run, tiny: Path, tmp_path: Path, document: str, words: tuple[str, ...]
) -> None:
    """Guards against a skip set that is malformed, or made for another model."""
    file = tmp_path / "skip.json"
    file.write_text(document)
    assert_refused(run("generate", tiny, "hi", "--skip-set", file), *words)


@pytest.mark.parametrize("command", ["generate", "chat", "pull", "inspect"])
def test_an_unknown_model_is_one_line(run: Run, command: str) -> None:
    """Guards the commonest mistake, in every command."""
    assert_refused(run(command, "./no-such-model", stdin="hi"), "./no-such-model")


@pytest.mark.parametrize(
    ("prompt", "word"), [(b"", "empty"), (b"caf\xe9", "UTF-8")], ids=["empty", "latin-1"]
)
def test_a_prompt_that_is_no_text_is_refused(
    run: Run, tiny: Path, prompt: bytes, word: str
) -> None:
    """Guards pipes and arguments that deliver nothing, or bytes that are no text."""
    assert_refused(run("generate", tiny, stdin=prompt), word)
    assert_refused(run("generate", tiny, stdin=prompt + b"\n"), word)
    assert_refused(run("generate", tiny, prompt.decode(errors="surrogateescape")), word)


def test_a_terminal_without_a_prompt_is_told_so(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a command that seems to hang, waiting for a terminal's end of file."""
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda self: True)
    assert_refused(run("generate", tiny), "no prompt", "pipe")


def test_a_model_without_tokenizer_cannot_read_text(run: Run, without_tokenizer: Path) -> None:
    """Guards against an error that speaks of the Python API's arguments."""
    assert_refused(run("generate", without_tokenizer, "hi"), "no tokenizer")


def test_verbose_shows_the_traceback(run: Run, tiny: Path) -> None:
    """Guards the way to find out where an error comes from; without it there is no traceback."""
    result = run("generate", tiny, "", "--verbose")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "Traceback" not in run("generate", tiny, "").stderr


def test_wrong_usage_names_the_choices(run: Run, tiny: Path) -> None:
    """Guards typer's own errors: exit code 2 and the possible values."""
    result = run("generate", tiny, "hi", "--draft", "fast")
    assert result.exit_code == 2
    assert all(mode in result.stderr for mode in ("auto", "swift", "off"))
    assert run("generates").exit_code == 2
