"""The methods of a benchmark run: each loads what it needs, and only if it is asked for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from selfdraft.cli.bench.options import RunOptions
from selfdraft.cli.options import ModelOptions
from selfdraft.cli.terminal import spinner

if TYPE_CHECKING:
    from selfdraft.bench.methods.method import Method
    from selfdraft.bench.methods.transformers_methods import PlainModel
    from selfdraft.engine import Engine


@contextmanager
def ready_methods(
    model: ModelOptions, options: RunOptions, engine: "Engine", source: Path
) -> "Iterator[list[Method]]":
    """The methods in the order that they were named; peers run for the length of the block.

    `source` is the folder that `engine` was loaded from. Methods that load nothing come first of
    all, so that a wrong name shows at once.
    """
    from selfdraft.bench.methods.ablation import NO_COPY, UNPACKED, no_copy_method, unpacked_method
    from selfdraft.bench.methods.method import engine_method
    from selfdraft.bench.methods.peer import running_peer
    from selfdraft.bench.methods.transformers_methods import NAMES, transformers_method

    peers = {peer.method: peer for peer in options.peers}
    theirs = [name for name in options.methods if name.partition("=")[0] in NAMES]
    others = {*peers, *theirs, NO_COPY, UNPACKED}
    made: dict[str, Method] = {
        name: engine_method(name, engine) for name in options.methods if name not in others
    }
    if NO_COPY in options.methods:
        made[NO_COPY] = no_copy_method(engine)
    if UNPACKED in options.methods:
        with spinner("loading the model once more, to leave it unpacked"):
            made[UNPACKED] = unpacked_method(engine, source)
    if theirs:
        plain = _plain_model(model, options, engine, source)
        made |= {name: transformers_method(name, plain) for name in theirs}
    with ExitStack() as stack:
        for name, peer in peers.items():
            with spinner(f"waiting for {peer.name}"):
                running = running_peer(
                    peer, eos_token_ids=engine.eos_token_ids, timeout=options.peer_timeout
                )
                made[name] = stack.enter_context(running)
        yield [made[name] for name in options.methods]


def _plain_model(
    model: ModelOptions, options: RunOptions, engine: "Engine", source: Path
) -> "PlainModel":
    from selfdraft.bench.methods.transformers_methods import PlainModel

    assistant = None
    if options.assistant is not None:
        from selfdraft.model.loading.load import pull

        assistant = pull(options.assistant, dtype=model.dtype, device=model.device)
    with spinner("loading the model once more, for transformers"):
        return PlainModel.load(
            source,
            dtype=engine.target.dtype,
            device=engine.target.device,
            eos_token_ids=engine.eos_token_ids,
            assistant=assistant,
        )
