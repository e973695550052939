"""Checks that the options of several commands share."""

from collections.abc import Iterable

from selfdraft.config import require


def listed(option: str, texts: Iterable[str]) -> list[str]:
    """The names in `texts`, which may hold several with commas; each may come once."""
    names = [name for text in texts for name in text.split(",") if name]
    require(len(set(names)) == len(names), f"{option} has {names}: name each once")
    return names


def require_positive(options: object, *names: str, remedy: str = "1 or more") -> None:
    """Raise `ConfigError` unless these attributes of `options` are above 0, or None."""
    for name in names:
        value = getattr(options, name)
        require(value is None or value > 0, f"{name} is {value}: give {remedy}")


def require_noise(noise: float, *, is_planted: bool) -> None:
    """Raise `ConfigError` unless `noise` is a share, and there is something planted to have it."""
    require(is_planted or noise == 0, "--noise is for what is planted: add --planted, too")
    require(0 <= noise <= 1, f"noise is {noise}: give 0 to 1")
