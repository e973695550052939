"""`selfdraft bench run` and what it leaves behind."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_runs import Run

from selfdraft import Engine
from selfdraft.bench.methods.method import EngineMethod, Output, Request
from selfdraft.cli.bench import run as bench_run
from selfdraft.cli.bench.speed import SpeedOptions

FAKE_PEER = Path(__file__).parents[2] / "fake_peer.py"
METHODS = "transformers,transformers-lookup=3,off,swift"


def summary_of(stdout: str) -> dict[str, Any]:
    document = json.loads(stdout.splitlines()[-1])
    assert isinstance(document, dict)
    return document


def bench(run: Run, model: Path, out: Path, *extra: object, methods: str = METHODS) -> Any:
    amounts = ("--limit", 2, "--max-new-tokens", 8)
    return run("bench", "run", model, "--methods", methods, *amounts, "--out", out, *extra)


@pytest.fixture(scope="session")
def float32(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[str, ...]:
    return ("--dtype", "float32")


def test_methods_are_measured_compared_and_written_down(
    run: Run, tiny: Path, tmp_path: Path, float32: tuple[str, ...]
) -> None:
    """Guards against a run whose last line, files and exit code disagree."""
    result = bench(run, tiny, tmp_path / "out", *float32)
    assert result.exit_code == 0, result.stderr
    summary = summary_of(result.stdout)
    assert summary["ending"] == "complete"
    assert summary["num_compared"] == summary["num_measurements"] == 8
    on_disk = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert on_disk == {k: v for k, v in summary.items() if k != "folder"}
    for name in METHODS.split(","):
        assert summary["methods"][name]["is_lossless"] in (True, None)
    assert summary["methods"]["swift"]["is_lossless"] is True
    assert summary["methods"]["swift"]["identical_to"]["transformers"]["num_same"] == 2
    total = [c for c in summary["cells"] if c["task"] is None]
    assert [c["method"] for c in total] == METHODS.split(",")
    assert all(c["num_new_tokens"] == total[0]["num_new_tokens"] for c in total)
    assert all(c["mean_accepted_length"] >= 1 for c in total)


def test_provenance_is_enough_to_run_it_again(
    run: Run, tiny: Path, tmp_path: Path, float32: tuple[str, ...]
) -> None:
    """Guards against a number that nobody can make again, and a second kind of fingerprint."""
    result = bench(run, tiny, tmp_path / "out", *float32, methods="off")
    origin = summary_of(result.stdout)["provenance"]
    assert origin["dtype"] == "float32"
    assert origin["threads"] >= 1
    assert origin["versions"]["torch"]
    assert origin["machine"]["cpu"]
    target = Engine.load(tiny, dtype="float32").target
    assert origin["model"]["fingerprint"] == target.fingerprint.weights
    assert {"date", "command", "commit", "device", "python"} <= origin.keys()


def test_a_second_call_measures_nothing_again_and_mixes_nothing(
    run: Run, tiny: Path, tmp_path: Path, float32: tuple[str, ...]
) -> None:
    """Guards against doubled measurements, and against two kinds of results in one folder."""
    first = bench(run, tiny, tmp_path / "out", *float32, methods="off,swift")
    again = bench(run, tiny, tmp_path / "out", *float32, methods="off,swift")
    assert summary_of(first.stdout)["cells"] == summary_of(again.stdout)["cells"]
    other = bench(run, tiny, tmp_path / "out", *float32, methods="off")
    assert other.exit_code == 2
    assert "arguments.methods" in other.stderr
    assert "another --out" in other.stderr


class OneTokenWrong(EngineMethod):
    """What a drafter that changes the text would do: the fifth token is another one."""

    def run(self, request: Request) -> Output:
        output = super().run(request)
        worst = (output.token_ids[4] + 7) % 90
        return replace(output, token_ids=(*output.token_ids[:4], worst, *output.token_ids[5:]))


def test_a_method_that_changes_one_token_is_caught(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a benchmark that reports the speed of wrong text."""
    from selfdraft.bench.methods import method as methods

    right = methods.engine_method

    def planted(name: str, engine: Any) -> EngineMethod:
        return OneTokenWrong(name, engine, name) if name == "swift" else right(name, engine)

    monkeypatch.setattr(methods, "engine_method", planted)
    result = bench(run, tiny, tmp_path / "out", methods="off,swift,skip-ratio=0.4")
    assert result.exit_code == bench_run.EXIT_NOT_LOSSLESS
    found = summary_of(result.stdout)["methods"]
    assert found["swift"]["is_lossless"] is False
    assert found["skip-ratio=0.4"]["is_lossless"] is True
    divergences = found["swift"]["identical_to"]["off"]["divergences"]
    assert [d["position"] for d in divergences] == [4, 4]
    assert all(d["margin"] is not None for d in divergences)
    assert "swift: NOT LOSSLESS" in result.stderr


def test_interrupted_runs_say_so(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against half a run that looks like a whole one."""
    from selfdraft.bench.run import runner

    real = runner._measure_one
    calls: list[int] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(runner, "_measure_one", interrupted)
    result = bench(run, tiny, tmp_path / "out", methods="off,swift")
    assert result.exit_code == 130
    assert summary_of(result.stdout)["ending"] == "interrupted"
    assert summary_of(result.stdout)["num_compared"] == 2
    again = bench(run, tiny, tmp_path / "out", methods="off,swift")
    assert summary_of(again.stdout)["num_compared"] == 4


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--tasks", "nothing"), "there is no task"),
        (("--methods", "magic"), "transformers-lookup"),
        (("--methods", "transformers-assisted"), "--assistant MODEL"),
        (("--methods", "off,off"), "name each once"),
        (("--methods", "skip-set=missing.json"), "missing.json"),
        (("--max-prompt-tokens", 1), "--max-prompt-tokens"),
        (("--repeats", 0), "1 or more"),
        (("--peer", "vllm"), "NAME=COMMAND"),
        (("--peer", "a=b", "--peer", "a=c"), "name each once"),
        (("--methods", "off,peer=vllm"), "--peer vllm=COMMAND"),
    ],
)
def test_mistakes_are_named(
    run: Run, tiny: Path, tmp_path: Path, extra: tuple[object, ...], message: str
) -> None:
    """Guards against a traceback, or an hour of measuring before the mistake shows."""
    result = run("bench", "run", tiny, "--out", tmp_path / "out", *extra)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr


def test_sampling_is_compared_with_vanilla(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Guards against seeds that differ between methods."""
    result = bench(run, tiny, tmp_path / "out", "--temperature", 0.8, methods="off,swift")
    assert summary_of(result.stdout)["methods"]["swift"]["is_lossless"] is True


@pytest.mark.slow
def test_every_lever_is_a_method(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Guards the names of the ablation, and that none of them changes a token."""
    names = "off,unpacked,auto,auto-no-copy,suffix,recycling,bits=8,bits=4"
    result = bench(run, tiny, tmp_path / "out", "--dtype", "bfloat16", methods=names)
    assert result.exit_code == 0, result.stderr
    found = summary_of(result.stdout)["methods"]
    assert list(found) == names.split(",")
    assert all(found[name]["is_lossless"] for name in found if name != "off")
    assert [found[f"bits={bits}"]["weight_bits"] for bits in (8, 4)] == [8, 4]


@pytest.mark.slow
def test_speed_is_the_whole_comparison(
    run: Run, tiny: Path, tmp_path: Path, float32: tuple[str, ...]
) -> None:
    """Guards the one command behind the headline: its methods, its tables, its exit code."""
    amounts = ("--limit", 3, "--max-new-tokens", 8, "--assistant", tiny)
    result = run("bench", "speed", tiny, *float32, *amounts, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    summary = summary_of(result.stdout)
    assert list(summary["methods"]) == [
        "transformers", "transformers-lookup", "transformers-assisted",
        "unpacked", "off", "auto", "auto-no-copy", "suffix", "bits=4",
    ]  # fmt: skip
    (total,) = [c for c in summary["cells"] if c["task"] is None and c["method"] == "auto"]
    slowest = [
        c["slowest_prompts"]["off"]
        for c in summary["cells"]
        if c["category"] is not None and c["method"] == "auto"
    ]
    assert min(slowest, key=lambda s: s["value"]) == total["slowest_prompts"]["off"]
    table = result.stderr[result.stderr.index("least / off") :]
    assert "story" in table
    assert f" {total['slowest_prompts']['off']['value']:.2f} " in table


def test_speed_without_an_assistant_leaves_it_out() -> None:
    """Guards against a default that cannot run, and against one that overrides a choice."""
    assert "transformers-assisted" not in SpeedOptions().methods
    assert "transformers-assisted" in SpeedOptions(assistant="small").methods
    assert SpeedOptions(assistant="small", methods=["off"]).methods == ["off"]
    assert SpeedOptions().limit == 24


def test_a_peer_is_measured_beside_the_rest(
    run: Run, tiny: Path, tmp_path: Path, float32: tuple[str, ...]
) -> None:
    """Guards against a competitor whose text nobody compares, or who is judged by our contract."""
    command = shlex.join([sys.executable, str(FAKE_PEER), "good"])
    arguments = (*float32, "--peer", f"numbers={command}")
    result = bench(run, tiny, tmp_path / "out", *arguments, methods="off")
    assert result.exit_code == 0, result.stderr
    summary = summary_of(result.stdout)
    assert summary["arguments"]["methods"] == ["off", "peer=numbers"]
    found = summary["methods"]["peer=numbers"]
    assert (found["family"], found["peer"]) == ("peer", "numbers 1.0")
    assert found["is_lossless"] is None
    assert found["identical_to"]["off"]["num_same"] == 0
    cell = next(c for c in summary["cells"] if c["method"] == "peer=numbers")
    assert cell["speedups"]["off"]["total"]["value"] > 0
    assert cell["speedups"]["off"]["decode"] is None
    assert cell["decode_tokens_per_second"] is None
    assert cell["extra_bytes"] is None
    report = run("bench", "report", tmp_path / "out")
    assert report.exit_code == 0, report.stderr


def test_a_peer_that_fails_leaves_what_was_measured(
    run: Run, tiny: Path, tmp_path: Path, float32: tuple[str, ...]
) -> None:
    """Guards against a traceback, or lost measurements, when the other program dies."""
    command = shlex.join([sys.executable, str(FAKE_PEER), "dies"])
    arguments = (*float32, "--peer", f"numbers={command}")
    result = bench(run, tiny, tmp_path / "out", *arguments, methods="off")
    assert result.exit_code == 2
    assert "out of memory" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_run_becomes_a_page(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Guards against a report that cannot read what `run` writes today."""
    bench(run, tiny, tmp_path / "out", "--costs")
    result = run("bench", "report", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    files = summary_of(result.stdout)
    assert Path(files["page"]).read_text().count("<figure>") == len(files["figures"]) / 2
    assert any("pass-costs" in name for name in files["figures"])


def test_a_report_without_matplotlib_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback for a library that is optional."""
    result = run("bench", "report", tmp_path)
    assert result.exit_code == 2
    assert "selfdraft bench run" in result.stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    from selfdraft.bench.report.figure_style import styled_figure
    from selfdraft.errors import ConfigError

    with pytest.raises(ConfigError, match=r"selfdraft\[bench\]"), styled_figure(1, 1):
        pass
