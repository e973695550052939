"""`selfdraft serve`: what it is told, what it says, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import Result

from selfdraft.cli import serve as serve_module
from selfdraft.server.settings import ServerSettings

Run = Callable[..., Result]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command would serve, instead of serving it."""
    seen: dict[str, Any] = {}

    def remember(settings: ServerSettings, model: Any, options: Any, load_engine: Any) -> None:
        seen.update(settings=settings, model=model, listen=options)

    monkeypatch.setattr(serve_module, "_run", remember)
    return seen


def test_options_become_settings(run: Run, told: dict[str, Any]) -> None:
    """Guards against an option that is accepted and ignored."""
    result = run(
        *("serve", "some/model", "--host", "::1", "--port", "0", "--api-key", "key"),
        *("--served-model-name", "mine", "--draft", "off", "--max-queue", "1"),
        *("--max-running", "2", "--max-model-len", "99", "--max-body-bytes", "1000"),
        *("--cors-origin", "https://a", "--cors-origin", "https://b", "--log-prompts"),
        *("--shutdown-seconds", "3"),
    )
    assert result.exit_code == 0, result.output
    assert told["settings"] == ServerSettings(
        served_model_name="mine",
        draft="off",
        api_key="key",
        max_queue=1,
        max_running=2,
        max_model_len=99,
        max_body_bytes=1000,
        cors_origins=("https://a", "https://b"),
        log_prompts=True,
        shutdown_seconds=3.0,
    )
    assert (told["listen"].host, told["listen"].port) == ("::1", 0)
    assert told["listen"].url(80) == "http://[::1]:80"


def test_settings_from_a_file(run: Run, told: dict[str, Any], tmp_path: Path) -> None:
    """Guards against a file that goes before the command line, or sets nothing."""
    file = tmp_path / "serve.toml"
    file.write_text(
        'model = "some/model"\nmax-queue = 3\nmax_running = 4\nport = 1234\n'
        'cors-origin = ["https://a"]\nlog-prompts = true\ndraft = "swift"\n'
    )
    assert run("serve", "--config", file, "--port", "99").exit_code == 0
    settings = told["settings"]
    assert (settings.max_queue, settings.max_running, settings.draft) == (3, 4, "swift")
    assert settings.cors_origins == ("https://a",)
    assert settings.log_prompts
    assert (told["model"].model, told["listen"].port) == ("some/model", 99)
    assert run("serve", "other", "--config", file).exit_code == 0
    assert told["settings"].served_model_name == "other"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("max-quee = 3", "max_quee"),
        ("max-queue = [3]", "max_queue"),
        ('cors-origin = "https://a"', "cors_origin"),
        ("max-running = true", "max_running"),
        ("[server]\nport = 3", "server"),
        ('port = "many"', "--port"),
        ("= 3", "TOML"),
        (None, "cannot read"),
    ],
)
def test_bad_file(run: Run, tmp_path: Path, text: str | None, word: str) -> None:
    """Guards against a typo in a file that is taken for nothing."""
    file = tmp_path / "serve.toml"
    if text is not None:
        file.write_text(text)
    result = run("serve", "some/model", "--config", file)
    assert result.exit_code == 2
    assert word in result.stderr


def test_key_from_the_environment(
    run: Run, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a key that has to stand on the command line, where everybody sees it."""
    monkeypatch.setenv("SELFDRAFT_API_KEY", "from-env")
    assert run("serve", "some/model", "--host", "0.0.0.0").stderr == ""
    assert told["settings"].api_key == "from-env"


def test_open_server_is_warned_of(run: Run, told: dict[str, Any]) -> None:
    """Guards against a model that the whole network may use without its owner's knowledge."""
    assert "warning" in run("serve", "some/model", "--host", "0.0.0.0").stderr
    for host in ("127.0.0.1", "::1", "localhost"):
        assert run("serve", "some/model", "--host", host).stderr == ""


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--port", "70000"), "port is 70000"),
        (("--max-running", "0"), "max_running is 0"),
        (("--max-queue", "-1"), "max_queue is -1"),
        (("--max-model-len", "1"), "max_model_len is 1"),
        (("--api-key", ""), "api_key is empty"),
        (("--shutdown-seconds", "nan"), "shutdown_seconds is nan"),
    ],
)
def test_bad_value(run: Run, options: tuple[str, ...], word: str) -> None:
    """Guards against a value that is only met when requests come."""
    result = run("serve", "./no-such-model", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {word}")


def test_missing_packages_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a traceback for those who installed the library alone."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("serve", "./no-such-model")
    assert result.exit_code == 2
    assert "pip install 'selfdraft[serve]'" in result.stderr


def test_unknown_model_ends_the_command(run: Run) -> None:
    """Guards against a server without a model that stays and answers 503."""
    result = run("serve", "./no-such-model", "--port", "0")
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert "./no-such-model" in result.stderr


def test_port_in_use(run: Run) -> None:
    """Guards against loading a model for minutes before it is said that the port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("serve", "./no-such-model", "--port", other.getsockname()[1])
    assert result.exit_code == 2
    assert "give another --port" in result.stderr.lower()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_ends_in_time_amid_a_stream(tiny: Path, number: signal.Signals) -> None:
    """Guards against a service manager that has to kill, and a stream that ends without a word."""
    program = "from selfdraft.cli.app import main; main()"
    command = [sys.executable, "-c", program, "serve", str(tiny), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--shutdown-seconds", "0.5"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    with process.stderr:
        url = next(
            match[1] for line in process.stderr if (match := re.search(r"at (http\S+)", line))
        )
        rest: list[str] = []
        reader = threading.Thread(target=lambda: rest.extend(process.stderr or ()))
        reader.start()
        body = {"model": str(tiny), "messages": [{"role": "user", "content": "a"}], "stream": True}
        body |= {"max_tokens": 1000, "temperature": 0}
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(number)
            last = [line for line in lines if line]
        assert process.wait(10) == 0
        reader.join()
    assert last[-1] == "data: [DONE]"
    assert '"error"' in last[-2] or '"finish_reason":"' in last[-2]
