"""A peer that writes numbers, or misbehaves in the way that its first argument names.

It is run as a program, by `test_peer.py` and by tests of the command line.
"""

import json
import signal
import subprocess
import sys


def main(mode: str) -> None:
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "dies loading":
        print("no such model: nowhere", file=sys.stderr)
        sys.exit(3)
    if mode == "silent":
        signal.pause()
    if mode == "parent":  # as a launcher or a program with workers
        worker = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        mode = f"parent {worker.pid}"
    say({"ready": mode != "not ready", "name": "numbers 1.0"})
    for line in sys.stdin:
        request = json.loads(line)
        if mode == "dies":
            print("out of memory", file=sys.stderr)
            sys.exit(9)
        if mode == "chatty":
            print("INFO: what a nice request", flush=True)
        if mode == "slow":
            signal.pause()
        say({"id": request["id"]} | answer(request, mode))
        if mode == "twice":
            say({"id": request["id"]} | answer(request, mode))
    if mode == "stubborn":
        signal.pause()


def answer(request: dict[str, object], mode: str) -> dict[str, object]:
    """Counts on from the length of the prompt; `echo` shows in tokens what it was asked."""
    if mode == "no tokens":
        return {"seconds": 0.5}
    if mode == "echo":
        asked = [request["max_new_tokens"], request["seed"], int(10 * request["temperature"])]
        return {
            "token_ids": [*request["token_ids"], *asked, *request["eos_token_ids"]],
            "seconds": 2,
        }
    if mode == "endless":
        return {"token_ids": [1], "seconds": float("inf")}
    if mode.startswith("parent"):
        return {"token_ids": [int(mode.split()[1])], "seconds": 1}
    start = len(request["token_ids"])
    return {"token_ids": [*range(start, start + request["max_new_tokens"])], "seconds": 0.5}


def say(message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
