"""Is an answer right? The final number of a sum, or code that passes its tests.

Losslessness says that every method writes the same; a score says it in the words of the task, and
makes methods that are not lossless comparable.
"""

import re
from dataclasses import dataclass

from selfdraft.bench.tasks.sandbox import runs_without_error

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_CODE_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """Right is a text whose final number is `expected`."""

    expected: str

    @classmethod
    def of(cls, text: str) -> "NumberAnswer":
        """The final number of a reference solution."""
        return cls(final_number(text) or text.strip())

    def is_right(self, output: str) -> bool:
        """Whether the output's final number is the expected one."""
        return final_number(output) == self.expected


@dataclass(frozen=True, slots=True)
class CodeAnswer:
    """Right is code that passes the tests. Judging it means running it."""

    prompt: str
    """The beginning of the program, for an output that goes on with it."""
    test: str
    """Code that defines `check(candidate)`."""
    entry_point: str

    def is_right(self, output: str) -> bool:
        """Run output and tests in a subprocess with limits; see `sandbox` for what they stop."""
        return runs_without_error(self.program(output))

    def program(self, output: str) -> str:
        """The whole program: imports of the prompt, the output's function, the tests."""
        block = _CODE_BLOCK.search(output)
        code = output if block is None else block[1]
        is_whole = re.search(rf"^def {re.escape(self.entry_point)}\b", code, re.MULTILINE)
        # The prompt stays in front of a whole function, too: it has the imports and helpers.
        code = f"{self.prompt}    pass\n\n{code}" if is_whole else self.prompt + code
        return f"{code}\n\n{self.test}\n\ncheck({self.entry_point})\n"


Answer = NumberAnswer | CodeAnswer


def final_number(text: str) -> str | None:
    """The number after the last `####`, else the last number; without commas and empty decimals."""
    _, marker, tail = text.rpartition("####")
    numbers: list[str] = _NUMBER.findall(tail if marker else text)
    if not numbers:
        return None
    number = (numbers[0] if marker else numbers[-1]).replace(",", "")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number
