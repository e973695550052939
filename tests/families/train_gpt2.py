"""Trains a small GPT-2 on this Python's own standard library, and saves it as transformers does.

    python tests/families/train_gpt2.py FOLDER --minutes 8
    selfdraft generate FOLDER "def main(" --raw --compare

A GPT-style model with weights that mean something, for machines that cannot download one: learned
positions, tied embeddings, byte-level BPE. What it writes looks like Python, and is not.
"""

import argparse
import math
import random
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
VOCAB_SIZE = 2048
NUM_POSITIONS = 256
BATCH_SIZE = 4
PEAK_LEARNING_RATE = 2e-3
WARM_UP = 0.03  # of the time
MAX_FILE_BYTES = 100_000  # longer files are tables


def library_texts() -> list[str]:
    """The sources of the standard library, without its tests and what was installed into it."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
    files = [
        file
        for file in sorted(folder.rglob("*.py"))
        if left_out.isdisjoint(file.relative_to(folder).parts)
        and file.stat().st_size < MAX_FILE_BYTES
    ]
    return [file.read_text(encoding="utf-8", errors="ignore") for file in files]


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2 has it."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, VOCAB_SIZE, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END)


def new_model(end_token_id: int) -> GPT2LMHeadModel:
    """A GPT-2 of six layers with five million weights."""
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=NUM_POSITIONS,
        n_embd=256,
        n_layer=6,
        n_head=8,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_token_id,
        eos_token_id=end_token_id,
    )
    return GPT2LMHeadModel(config)


def batches(token_ids: Tensor) -> Iterator[Tensor]:
    """Stretches from anywhere in the text, without end."""
    while True:
        starts = torch.randint(len(token_ids) - NUM_POSITIONS, (BATCH_SIZE,))
        yield torch.stack([token_ids[start : start + NUM_POSITIONS] for start in starts])


def learning_rate(share: float) -> float:
    """Up in a line, down in a cosine; `share` of the time is over."""
    decay = 0.5 * (1 + math.cos(math.pi * share))
    return PEAK_LEARNING_RATE * min(share / WARM_UP, 1.0) * decay


def train(model: GPT2LMHeadModel, token_ids: Tensor, minutes: float, progress: Progress) -> None:
    """Train until the time is over, or until Ctrl-C."""
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95))
    task = progress.add_task("training", total=1.0, loss="")
    start, mean_loss = time.perf_counter(), None
    model.train()
    for step, batch in enumerate(batches(token_ids), start=1):
        share = (time.perf_counter() - start) / (60 * minutes)
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(share)
        logits = model(batch[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        mean_loss = loss.item() if mean_loss is None else 0.95 * mean_loss + 0.05 * loss.item()
        shown = f"step {step}, loss {mean_loss:.2f} nats a token"
        progress.update(task, completed=share, loss=shown)


def read_arguments() -> argparse.Namespace:
    first_line, *_ = str(__doc__).splitlines()
    parser = argparse.ArgumentParser(description=first_line)
    parser.add_argument("folder", type=Path, help="where to save the model; made if need be")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long to train (default: 8)")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of torch (default: 1; more on an idle CPU)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    arguments = parser.parse_args()
    if arguments.minutes <= 0 or arguments.threads <= 0:
        parser.error("--minutes and --threads must be positive")
    return arguments


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    console = Console(stderr=True)
    with console.status("reading the standard library"):
        texts = library_texts()
        random.Random(arguments.seed).shuffle(texts)
        tokenizer = train_tokenizer(texts)
        token_ids = torch.tensor(tokenizer(END.join(texts), verbose=False).input_ids)
    console.print(f"{len(texts)} files, {len(token_ids):,} tokens")
    model = new_model(tokenizer.eos_token_id)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    try:
        with Progress(*columns, console=console) as progress:
            train(model, token_ids, arguments.minutes, progress)
    except KeyboardInterrupt:
        console.print("stopped; saving what there is")
    model.eval().save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)
    console.print(f"saved to {arguments.folder}")


if __name__ == "__main__":
    main()
