"""Whether an answer is right."""

import pytest

from selfdraft.bench.tasks import sandbox
from selfdraft.bench.tasks.scoring import CodeAnswer, NumberAnswer, final_number

ADD = CodeAnswer(
    prompt='import math\n\n\ndef add(a, b):\n    """The sum."""\n',
    test="def check(candidate):\n    assert candidate(2, 3) == 5",
    entry_point="add",
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 18", "18"),
        ("2 and 3 make 5.", "5"),
        ("It costs $1,200.50.", "1200.5"),
        ("so 4.00", "4"),
        ("the answer is -7", "-7"),
        ("#### 12 apples, which is 3 more", "12"),
        ("no idea", None),
    ],
)
def test_the_final_number(text: str, number: str | None) -> None:
    """Guards against answers that are wrong for their commas, units or decimals."""
    assert final_number(text) == number


def test_a_number_is_compared_exactly() -> None:
    """Guards against a step of the way being taken for the answer."""
    assert NumberAnswer.of("4 + 1 = 5\n#### 5").is_right("First 4, then 5.")
    assert not NumberAnswer.of("#### 5").is_right("5 and then 6")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "is_right"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```", True),
        ("```python\ndef add(a, b):\n    return int(math.fsum([a, b]))\n```", True),
        ("    return a + b\n", True),
        ("```python\ndef add(a, b):\n    return a - b\n```", False),
        ("```python\nimport sys\nsys.exit(0)\n```", False),
        ("```python\nimport os\nos._exit(0)\n```", False),
        ("```python\ndef add(a, b):\n    return (", False),
        ("```python\nx = [0] * 10**10\ndef add(a, b):\n    return a + b\n```", False),
    ],
)
def test_code_is_right_if_its_tests_pass(output: str, is_right: bool) -> None:
    """Guards against programs that leave before the tests, and imports that only the prompt has."""
    assert ADD.is_right(output) is is_right


@pytest.mark.slow
def test_an_endless_program_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a benchmark that hangs on what a model wrote."""
    monkeypatch.setattr(sandbox, "_SECONDS", 1)
    assert not sandbox.runs_without_error("while True:\n    pass\n")
