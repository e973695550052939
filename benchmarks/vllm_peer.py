"""vLLM as a peer of `selfdraft bench run`, one request at a time, in bfloat16.

    selfdraft bench run FOLDER --methods transformers,off,auto \
        --peer "vllm=VLLM_PYTHON benchmarks/vllm_peer.py FOLDER"

VLLM_PYTHON is the Python of an environment that has vLLM, which need not have selfdraft. The
protocol is that of docs/benchmarks.md. There is no prefix cache, as no other method has one.
"""

import json
import os
import sys
import time
from typing import Any

# The context that is allocated: prompt and output together.
MAX_TOKENS = 4096

# Set before vLLM is imported. One process, so that ending it ends everything.
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}


def main(folder: str) -> None:
    """Load the model, say so, and answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM, and what it starts, print to standard output
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import vllm

    model = vllm.LLM(
        folder,
        dtype="bfloat16",
        max_model_len=MAX_TOKENS,
        max_num_seqs=1,
        enable_prefix_caching=False,
    )
    print(json.dumps({"ready": True, "name": f"vllm {vllm.__version__}"}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, json.loads(line))), file=answers, flush=True)


def answer(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Write the text of one request, the end token included."""
    from vllm import SamplingParams

    options = SamplingParams(
        temperature=request["temperature"],
        seed=request["seed"],
        max_tokens=request["max_new_tokens"],
        stop_token_ids=request["eos_token_ids"],
        detokenize=False,
    )
    prompt = {"prompt_token_ids": request["token_ids"]}
    start = time.perf_counter()
    outputs = model.generate([prompt], options, use_tqdm=False)
    seconds = time.perf_counter() - start
    token_ids = list(outputs[0].outputs[0].token_ids)
    return {"id": request["id"], "token_ids": token_ids, "seconds": seconds}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
