"""What stands in for a module that a draft skips."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


def first_tensor(args: tuple[object, ...], kwargs: dict[str, object]) -> Tensor:
    """The first tensor of a call, by position or by name: the hidden states."""
    tensor = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
    assert tensor is not None, "a sublayer is called with its input"
    return tensor


@dataclass(frozen=True, slots=True)
class Returns:
    """The form of a module's result: a bare tensor, or a tuple that starts with one."""

    tuple_length: int | None = None

    @classmethod
    def like(cls, output: object) -> "Returns":
        """The form of `output`."""
        return cls(len(output) if isinstance(output, tuple) else None)

    def wrap(self, tensor: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        """`tensor` in this form; the rest of a tuple is None."""
        if self.tuple_length is None:
            return tensor
        return (tensor, *[None] * (self.tuple_length - 1))


class Stub(Protocol):
    """A recipe for a stub."""

    def result(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """What the stub returns for a call."""
        ...


@dataclass(frozen=True, slots=True)
class Bypass:
    """Hands its input on: for a norm whose result nobody uses, or a whole layer."""

    returns: Returns = Returns()

    def result(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """The input."""
        return self.returns.wrap(first_tensor(args, kwargs))


@dataclass(frozen=True, slots=True)
class Silence:
    """Contributes zero to the residual stream, which is `width` wide."""

    width: int
    returns: Returns = Returns()

    def result(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Zeros of the residual stream's shape."""
        hidden = first_tensor(args, kwargs)
        return self.returns.wrap(hidden.new_zeros((*hidden.shape[:-1], self.width)))


@dataclass(frozen=True, slots=True)
class PassResidual:
    """Returns the residual stream, for a module that is given it and adds to it by itself."""

    argument: int | str
    returns: Returns = Returns()

    def result(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """The argument that is the residual stream."""
        by_position = isinstance(self.argument, int)
        residual = args[self.argument] if by_position else kwargs[self.argument]  # type: ignore[index]
        assert isinstance(residual, Tensor)
        return self.returns.wrap(residual)


class StubModule(nn.Module):
    """A module that does what a stub says."""

    def __init__(self, stub: Stub) -> None:
        super().__init__()
        self._stub = stub

    def forward(self, *args: object, **kwargs: object) -> object:
        """The stub's result; nothing is computed."""
        return self._stub.result(args, kwargs)
