"""The tree of errors."""

import inspect

from selfdraft import errors


def test_docstring_draws_every_error() -> None:
    """Guards against an error that its own documentation leaves out."""
    assert errors.__doc__ is not None
    names = [name for name, _ in inspect.getmembers(errors, inspect.isclass)]
    assert len(names) >= 7
    assert all(name in errors.__doc__ for name in names)


def test_one_base_for_all() -> None:
    """Guards against an error that `except SelfdraftError` lets through."""
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if not issubclass(error, Warning):
            assert issubclass(error, errors.SelfdraftError)
