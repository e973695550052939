"""`selfdraft bench speed`: how much faster, against what, and what each lever has to do with it."""

from dataclasses import dataclass, field

from selfdraft.cli.bench.category_table import print_categories
from selfdraft.cli.bench.options import Limit, Methods, RunOptions
from selfdraft.cli.bench.run import run_benchmark
from selfdraft.cli.bench.table import print_summary
from selfdraft.cli.options import ModelOptions

_OTHERS = ("transformers", "transformers-lookup")
_ASSISTED = "transformers-assisted"
_OURS = ("unpacked", "off", "auto", "auto-no-copy", "suffix", "bits=4")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions(RunOptions):
    """Those of `bench run`; what is measured by default is the whole comparison."""

    methods: Methods = field(default_factory=lambda: [*_OTHERS, *_OURS])
    limit: Limit = 24

    def __post_init__(self) -> None:
        if self.assistant is not None and self.methods == [*_OTHERS, *_OURS]:
            object.__setattr__(self, "methods", [*_OTHERS, _ASSISTED, *_OURS])
        RunOptions.__post_init__(self)  # `super()` does not work in a class with slots


def speed(model: ModelOptions, options: SpeedOptions) -> None:
    """Measure how much faster auto is than what there is without it, and than each of its parts.

    This is `bench run` with the whole comparison as its defaults: transformers' own ways to
    generate (assisted, too, with --assistant), plain decoding with and without weights laid out
    for it, and drafts that have only some of what auto has. A table at the end says for each
    category how much faster auto is, and on which prompt it gains least. Everything else is as
    in `bench run`.

    For example:

      selfdraft bench speed smollm2-135m --out bench-results/speed
    """
    run_benchmark(model, options, (print_summary, print_categories))
