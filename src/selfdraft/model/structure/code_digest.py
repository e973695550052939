"""A digest of the code that a model runs, taken from the code in memory.

Not from source files: what is in memory is what runs, also where somebody has replaced a method,
where a class was typed into a notebook, and where the file has changed since it was imported. The
code of a class is its methods, what they wrap, and every function and class that they name, as far
as that is code of the model. What comes with torch and with transformers' common modules is covered
by their versions, and only looked at where the model's own code touches it.
"""

import hashlib
from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType

# Versions name these; the code of a model is elsewhere.
_VERSIONED = ("torch", "transformers", "numpy", "builtins", "typing", "abc", "functools")
_MODEL_CODE = "transformers.models."
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


def digest_code(classes: Iterable[type], functions: Iterable[object] = ()) -> str:
    """A sha256 of what `classes` and `functions` compute, in hexadecimal.

    The same in every process that runs the same code on the same version of Python.
    """
    walk = _CodeWalk()
    for part in (*classes, *functions):
        walk.add(part)
    return walk.hexdigest()


class _CodeWalk:
    """Visits code once each; the digest does not depend on the order."""

    def __init__(self) -> None:
        self._lines: set[str] = set()  # two parts of one name, as decorators make them, both count
        self._seen: set[int] = set()
        self._held: list[object] = []  # so that no id is given to another object

    def hexdigest(self) -> str:
        """The digest of all that was added."""
        return hashlib.sha256("\n".join(sorted(self._lines)).encode()).hexdigest()

    def add(self, part: object) -> None:
        """Take in a class, a function, or what wraps one."""
        if id(part) in self._seen:
            return
        self._seen.add(id(part))
        self._held.append(part)
        if isinstance(part, type):
            self._add_class(part)
        elif isinstance(part, FunctionType):
            self._add_function(part)
        elif isinstance(part, staticmethod | classmethod | MethodType):
            self.add(part.__func__)
        elif isinstance(part, property):
            self.add(part.fget)

    def _add_class(self, part: type) -> None:
        bases = [_name(base) for base in part.__mro__[1:]]
        self._lines.add(f"{_name(part)} {bases}")
        if _is_versioned(part):
            self.add(vars(part).get("forward"))  # the one that somebody may have replaced
            return
        for name, member in vars(part).items():
            if isinstance(member, _CONSTANTS) and not name.startswith("__"):
                self._lines.add(f"{_name(part)}.{name} {member!r}")
            self.add(member)
        for base in part.__mro__[1:]:
            self.add(base)

    def _add_function(self, part: FunctionType) -> None:
        constants = (*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).items())
        self._lines.add(f"{_name(part)} {_code_line(part.__code__)} {_constant(constants)}")
        for name, cell in zip(part.__code__.co_freevars, part.__closure__ or (), strict=True):
            content = _content(cell)
            self._lines.add(f"{_name(part)} {name} {_constant(content)}")
            self.add(content)
        if not _is_versioned(part):
            for name in _names(part.__code__):
                value = part.__globals__.get(name)
                if isinstance(value, _CONSTANTS) and value is not None:
                    self._lines.add(f"{part.__module__}.{name} {value!r}")
                self.add(value)


def _name(part: type | FunctionType) -> str:
    return f"{part.__module__}.{part.__qualname__}"


def _is_versioned(part: type | FunctionType) -> bool:
    module = part.__module__ or ""
    is_listed = module.split(".")[0] in _VERSIONED
    return is_listed and not module.startswith(_MODEL_CODE)


def _code_line(code: CodeType) -> str:
    """What the code does; neither line numbers nor the file, which mean nothing."""
    constants = [_constant(constant) for constant in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, code.co_varnames, code.co_flags, constants))


def _constant(value: object) -> str:
    if isinstance(value, CodeType):
        return _code_line(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):  # whose order differs from process to process
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    if isinstance(value, _CONSTANTS):
        return repr(value)
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__qualname__  # a repr may hold an address


def _names(code: CodeType) -> set[str]:
    """Global names that the code and the functions inside it may use."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def _content(cell: object) -> object:
    try:
        return cell.cell_contents  # type: ignore[attr-defined]
    except ValueError:  # a name that is not bound yet
        return None
