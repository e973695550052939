"""Contract L2: in bfloat16 on a CPU, logits are the same bits with and without speculation.

The bits hold because oneDNN gives a row of a linear the same bits for any number of rows from two
to 32, and because every row's attention is computed as if the row were alone (docs/contract.md).
"""

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from decoding_runs import decode
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import DRAFTS, EVERYTHING, make_prompt, tiny_engine, tiny_model
from torch import Tensor
from transformers import MixtralConfig
from tree_strategies import parent_lists

from selfdraft import DraftConfig, Engine
from selfdraft.decoding.token_tree import MAX_NODES, TokenTree
from selfdraft.model.attention import attention_kernel
from selfdraft.model.kernels import rms_norm, tile_linear
from selfdraft.model.kernels.packing import pack_linears
from selfdraft.model.target import Target

KERNELS: dict[str, tuple[ModuleType, ...]] = {
    "our kernels": (attention_kernel, tile_linear, rms_norm),
    "our attention": (attention_kernel,),
    "our linears": (tile_linear,),
    "torch's kernels": (),
}


@pytest.fixture(scope="module", params=KERNELS, autouse=True)
def _kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test runs by our kernels, where there are any, and by torch's in the place of some."""
    ours = KERNELS[request.param]
    if not all(kernel.is_there() for kernel in ours):
        pytest.skip("no such kernel: no C compiler at install, or another CPU")
    with pytest.MonkeyPatch.context() as patch:
        for kernel in KERNELS["our kernels"]:
            if kernel not in ours:
                patch.setattr(kernel, "_kernel", lambda: None)
        tiny_engine.cache_clear()  # what it keeps was made with other kernels
        yield
    tiny_engine.cache_clear()


MANY_SIBLINGS = DraftConfig(
    skip_set=EVERYTHING, stop_confidence=0.0, max_draft_steps=3, sibling_counts=((1.0, 20),)
)


def assert_same_bits(engine: Engine, prompt: list[int], draft: DraftConfig, num: int = 16) -> None:
    vanilla = decode(engine, prompt, "off", max_new_tokens=num)
    speculative = decode(engine, prompt, draft, max_new_tokens=num)
    assert speculative.sink.token_ids == vanilla.sink.token_ids
    differing = (speculative.sink.logits != vanilla.sink.logits).any(dim=1)
    assert not differing.any(), f"logits differ at new tokens {differing.nonzero().flatten()}"


@pytest.mark.parametrize("draft", [*DRAFTS.values(), MANY_SIBLINGS], ids=[*DRAFTS, "many"])
def test_logits_have_the_same_bits(draft: DraftConfig) -> None:
    """Guards against verifying rows in a call whose kernel rounds differently from decoding."""
    assert_same_bits(tiny_engine(dtype=torch.bfloat16), make_prompt(17), draft)


@pytest.mark.parametrize("length", [1, 2, 60])
def test_at_any_prompt_length(length: int) -> None:
    """Guards against a first token that comes from another kernel: prefill's, or a one-row one."""
    assert_same_bits(tiny_engine(dtype=torch.bfloat16), make_prompt(length), DRAFTS["tree"])


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
def test_in_other_families(family: str) -> None:
    """Guards against bits that hold only without biases."""
    assert_same_bits(tiny_engine(family, torch.bfloat16), make_prompt(9), DRAFTS["wide tree"])


@pytest.mark.parametrize("window", [3, 8])
def test_in_a_sliding_window(window: int) -> None:
    """Guards against windows whose first key depends on the shape of the tree."""
    engine = Engine(tiny_model("mistral", dtype=torch.bfloat16, sliding_window=window))
    assert_same_bits(engine, make_prompt(12), DRAFTS["wide tree"])
    assert_tree_has_bits_of_its_paths(engine.target, make_prompt(12), BUSHY)


def test_where_one_row_has_other_bits() -> None:
    """Guards against one-row passes: in products this long their bits differ from many rows'."""
    engine = Engine(tiny_model(dtype=torch.bfloat16, intermediate_size=3072))
    assert_same_bits(engine, make_prompt(9), DRAFTS["wide tree"])


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_a_row_has_the_same_bits_in_a_tree_of_any_size(is_packed: bool) -> None:
    """Guards against trees so large that oneDNN multiplies in another way.

    On CPUs with AMX it does from 33 rows on, in layers of a real model's size; tiny ones hide it.
    """
    torch.manual_seed(0)
    linear = torch.nn.Linear(896, 4864, bias=False, dtype=torch.bfloat16)
    model = torch.nn.Sequential(linear)
    if is_packed:
        pack_linears(model)
    rows = torch.randn(MAX_NODES, 896, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = model(rows)
        for num_rows in (4, 5, 8, 15, 16, 17, 24, 31):
            assert torch.equal(model(rows[:num_rows]), expected[:num_rows]), num_rows


def test_sampling_keeps_the_bits() -> None:
    """Guards against a chooser that writes its warped scores into the target's logits."""
    engine, options = tiny_engine(dtype=torch.bfloat16), {"temperature": 0.8, "top_k": 20}
    vanilla = decode(engine, make_prompt(9), "off", max_new_tokens=16, **options)
    speculative = decode(engine, make_prompt(9), DRAFTS["tree"], max_new_tokens=16, **options)
    assert torch.equal(speculative.sink.logits, vanilla.sink.logits)


def logits_along(target: Target, prompt: list[int], token_ids: tuple[int, ...]) -> Iterator[Tensor]:
    """Vanilla decoding of `token_ids` one by one after `prompt`: the logits after each."""
    cache = target.new_cache(len(prompt) + len(token_ids))
    if prompt:
        target.prefill(cache, prompt)
    for token_id in token_ids:
        yield target.forward(cache, [token_id], ((0,),))[0]
        cache.advance(1)


def assert_tree_has_bits_of_its_paths(target: Target, prompt: list[int], tree: TokenTree) -> None:
    cache = target.new_cache(1)  # it has to grow in the middle of the pass
    if prompt:
        target.prefill(cache, prompt)
    verified = target.forward(cache, tree.token_ids, tree.paths)
    inner = set(tree.parents)
    for leaf in (node for node in range(len(tree.parents)) if node not in inner):
        path = tree.paths[leaf]
        along = logits_along(target, prompt, tuple(tree.token_ids[node] for node in path))
        for node, logits in zip(path, along, strict=True):
            assert torch.equal(verified[node], logits), f"node {node} of {tree}"


BUSHY = TokenTree(
    token_ids=(4, 8, 15, 16, 23, 42, 4, 8, 15, 0, 0, 7),
    parents=(-1, 0, 1, 2, 0, 4, 5, 1, 7, 8, 4, 10),
)
"""Every sibling has children; the paths of its leaves need most slots rearranged."""


@pytest.mark.parametrize("length", [0, 1, 40])
def test_tree_has_the_bits_of_its_paths(length: int) -> None:
    """Guards against a path of a general tree whose keys are put into the wrong slots."""
    target = tiny_engine(dtype=torch.bfloat16).target
    assert_tree_has_bits_of_its_paths(target, make_prompt(length), BUSHY)


@pytest.mark.slow
@settings(max_examples=15)
@given(parents=parent_lists(), length=st.sampled_from([0, 3, 40]), seed=st.integers(0, 9))
def test_any_tree_has_the_bits_of_its_paths(
    parents: tuple[int, ...], length: int, seed: int
) -> None:
    """Guards against tree shapes that nobody thought of."""
    target = tiny_engine(dtype=torch.bfloat16).target
    tree = TokenTree(tuple(make_prompt(len(parents), seed=seed)), parents)
    assert_tree_has_bits_of_its_paths(target, make_prompt(length), tree)


def test_bits_survive_growth_of_the_cache() -> None:
    """Guards against rows lost, or kept at other strides, when the buffers are reallocated."""
    engine = tiny_engine(dtype=torch.bfloat16)
    prompt = make_prompt(6)
    expected = torch.stack(list(logits_along(engine.target, prompt, tuple(make_prompt(140)))))
    cache = engine.target.new_cache(1)
    engine.target.prefill(cache, prompt)
    rows, capacities = [], set()
    for token_id in make_prompt(140):
        rows.append(engine.target.forward(cache, [token_id], ((0,),))[0])
        cache.advance(1)
        capacities.add(cache.num_bytes())
    assert len(capacities) > 2
    assert torch.equal(torch.stack(rows), expected)


@pytest.mark.slow
def test_bits_with_two_threads() -> None:
    """Guards against a kernel that splits its work by the number of rows."""
    torch.set_num_threads(2)
    try:
        target = tiny_engine(dtype=torch.bfloat16).target
        assert_tree_has_bits_of_its_paths(target, make_prompt(5), BUSHY)
    finally:
        torch.set_num_threads(1)


def test_bits_in_narrow_layers() -> None:
    """Guards against linears so small that the row rule starts later than at two rows.

    torch hands a bfloat16 product to oneDNN only if rows * inputs * outputs exceeds 4,096; here the
    MLP's projections have 64 * 32 weights, so two rows go another way than three.
    """
    engine = Engine(tiny_model(dtype=torch.bfloat16, intermediate_size=32))
    assert_same_bits(engine, make_prompt(9, seed=1), DRAFTS["wide tree"])


def test_no_bits_are_promised_for_a_mixture_of_experts() -> None:
    """Guards against a promise that experts break: one sees one row of a tree, or several, and two
    equal rows when decoding plainly.
    """
    model = tiny_model(
        MixtralConfig,
        dtype=torch.bfloat16,
        num_hidden_layers=3,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    assert not Engine(model).target.is_bit_exact
