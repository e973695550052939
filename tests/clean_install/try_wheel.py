"""What a user sees who installs the wheel: `python try_wheel.py CLONE`, run in another folder.

Runs the Python of the README and the quickstart word for word, with every warning as an error, and
the commands `generate` and `check` on the default model. Needs nothing but the wheel.
"""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PAGES = ("README.md", "docs/quickstart.md")
COMMANDS = (
    ("generate", "smollm2-135m", "Name three rivers.", "--max-new-tokens", "8"),
    ("check", "smollm2-135m", "--limit", "1", "--max-new-tokens", "16"),
    ("inspect", "smollm2-135m"),
)


def run(*arguments: str) -> None:
    """Run Python with `arguments`; end with its output if it fails."""
    print("trying:", *(argument.split("\n")[0] for argument in arguments[-8:]), flush=True)
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def main() -> None:
    """Try everything; the first failure ends with its output."""
    clone = Path(sys.argv[1]).resolve()
    place = "import selfdraft; print(selfdraft.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", place], capture_output=True, text=True, check=True
    )
    if Path(found.stdout.strip()).is_relative_to(clone / "src"):
        sys.exit(f"{found.stdout.strip()} is the clone's own, not the wheel's")
    print(
        "Python", sys.version.split()[0], *(f"{p} {version(p)}" for p in ("torch", "transformers"))
    )
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", (clone / page).read_text("utf-8"), re.DOTALL)
        run("-W", "error", "-c", f"# {page}\n" + "\n".join(blocks))
    script = str(Path(sys.executable).with_name("selfdraft"))
    for command in COMMANDS:
        run("-W", "error", script, *command)


if __name__ == "__main__":
    main()
