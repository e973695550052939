"""Imports go down only (docs/architecture.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import PACKAGE, module_name, source_files

LAYERS = (
    ("config", "errors", "shapes"),
    ("storage",),
    ("model",),
    ("decoding",),
    ("drafting", "search", "text"),
    (
        "drafts",
        "engine",
        "generate_options",
        "generation",
        "tested_versions",
        "transformers_bridge",
    ),
    ("", "bench", "cli", "server"),
)
"""From the bottom up; "" is the package itself, the public names. A module may import its own
layer and those below it."""

RANKS = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

MODEL_LAYERS = (
    ("draft_plan", "placement", "sharing", "skip_set"),
    ("cache",),
    ("kernels",),
    ("attention", "weights"),
    ("view",),
    ("structure",),
    ("layer_walk", "target"),
    ("loading",),
)
"""The parts of `model/`, by the same rule."""

MODEL_RANKS = {part: rank for rank, parts in enumerate(MODEL_LAYERS) for part in parts}

MODELLING = (
    "transformers.models",
    "transformers.cache_utils",
    "transformers.masking_utils",
    "transformers.integrations",
    "transformers.modeling_",
    "transformers.modeling_utils",
)
MODELLING_NAMES = {
    "AttentionInterface",
    "Cache",
    "DynamicCache",
    "StaticCache",
    "AttentionMaskInterface",
}


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import of a file; name is "" for plain imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


def part_of(module: str) -> str:
    """The part of our package that `module` belongs to: the second part of its name."""
    return ([*module.split("."), ""])[1]


def target_part(module: str, name: str) -> str:
    """The part that `from module import name` reaches."""
    if module == PACKAGE.name and (name in RANKS or (PACKAGE / f"{name}.py").exists()):
        return name
    return part_of(module)


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_imports_go_down(path: Path) -> None:
    """Guards against a lower layer that knows a higher one."""
    own = RANKS[part_of(module_name(path))]
    wrong = [
        f"{module}.{name}".rstrip(".")
        for module, name in imports_of(path)
        if module.split(".")[0] == PACKAGE.name and RANKS[target_part(module, name)] > own
    ]
    assert not wrong, f"{module_name(path)} imports from above: {wrong}"


def model_part(module: str) -> str:
    """The part of `model/` that `module` belongs to; "" for modules elsewhere."""
    names = [*module.split("."), "", ""]
    return names[2] if names[1] == "model" else ""


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_imports_go_down_inside_the_model(path: Path) -> None:
    """Guards against a kernel that knows who loads a model."""
    part = model_part(module_name(path))
    if not part:
        return
    reached = [model_part(f"{module}.{name}") for module, name in imports_of(path)]
    wrong = {other for other in reached if other and MODEL_RANKS[other] > MODEL_RANKS[part]}
    assert not wrong, f"{module_name(path)} imports from above: {wrong}"


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_only_model_knows_modelling_code(path: Path) -> None:
    """Guards against names of transformers' internals that spread through the package."""
    if part_of(module_name(path)) == "model":
        return
    wrong = [
        (module, name)
        for module, name in imports_of(path)
        if module.startswith(MODELLING) or (module == "transformers" and name in MODELLING_NAMES)
    ]
    assert not wrong


def test_table_of_layers_is_complete() -> None:
    """Guards against a new part of the package that no rule speaks of."""
    names = [module_name(path) for path in source_files()]
    assert {part_of(name) for name in names} == RANKS.keys()
    assert {model_part(name) for name in names} - {""} == MODEL_RANKS.keys()


def test_the_rule_can_fail() -> None:
    """Guards against a rule that lets everything pass."""
    assert RANKS[target_part("selfdraft.engine", "Engine")] > RANKS["decoding"]
    assert RANKS[target_part("selfdraft", "Engine")] > RANKS["engine"]
    assert RANKS[target_part("selfdraft", "errors")] == RANKS["config"]
    assert part_of("selfdraft") == ""
    assert model_part("selfdraft.model.cache.kv_cache") == "cache"
    assert MODEL_RANKS["loading"] > MODEL_RANKS["cache"]
