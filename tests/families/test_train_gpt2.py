"""A GPT-2 made by `train_gpt2.py`, from its folder as a user's model would be."""

import subprocess
import sys
from pathlib import Path

import pytest

from selfdraft import DraftConfig, Engine

SCRIPT = Path(__file__).parent / "train_gpt2.py"


@pytest.mark.slow
def test_a_gpt2_with_weights_and_tokenizer_is_decoded_from_its_folder(tmp_path: Path) -> None:
    """Guards against a script that no longer runs, and a GPT-style folder that does not load."""
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--minutes", "0.05"]
    subprocess.run(command, check=True, capture_output=True)
    engine = Engine.load(tmp_path, dtype="bfloat16", device="cpu")
    assert engine.target.is_bit_exact
    assert engine.target.layers.eligible_alone == (1, 2, 3, 4)
    options = {"max_new_tokens": 24, "temperature": 0.8, "seed": 3}
    vanilla = engine.generate("def main(", draft="off", **options)
    for draft in ("swift", DraftConfig.chain(4)):
        assert engine.generate("def main(", draft=draft, **options).text == vanilla.text
