"""MicroPython's standard library in stubs, made fit for pyrefly.

pyrefly starts only with a typeshed that defines each class it knows by name. micropython-stdlib-stubs lacks some, as no
board has them, and writes two things as an older typeshed did. Added is no more than the start needs: whoever uses one
of these names in device code asks for an attribute that is not there.
"""

from pathlib import Path

from .subprocesses import SetupError

__all__ = ["make_complete"]

_ADDED = {
    "datetime": "class date: ...\nclass datetime: ...\nclass time: ...\nclass timedelta: ...\n",
    "decimal": "class Decimal: ...\n",
    "functools": 'from typing import Generic, TypeVar\n_T = TypeVar("_T")\nclass partial(Generic[_T]): ...\n',
    "pathlib": "class Path: ...\n",
    "uuid": "class UUID: ...\n",
    "_typeshed/_type_checker_internals": (
        "from typing import Any, Awaitable, Generator, Generic, Mapping, TypeVar\n"
        '_Y = TypeVar("_Y")\n_S = TypeVar("_S")\n_R = TypeVar("_R")\n_F = TypeVar("_F")\n'
        "class TypedDictFallback(Mapping[str, object]): ...\n"
        "class NamedTupleFallback(tuple[Any, ...]): ...\n"
        "class AwaitableGenerator(Awaitable[_R], Generator[_Y, _S, _R], Generic[_Y, _S, _R, _F]): ...\n"
    ),
}
# (module, what is there once, what pyrefly wants in its place)
_REPLACED = (
    ("typing", "\nAny = object()\n", "\nclass Any: ...\n"),
    ("typing_extensions", "bound=Callable[..., Any])\n", "bound=object)\nclass Sentinel: ...\n"),
)


def make_complete(stdlib: Path) -> None:
    """Add to the stubs in the directory `stdlib` what pyrefly starts with; raises SetupError where they are others."""
    for module, stub in _ADDED.items():
        path = stdlib / f"{module}.pyi"
        if path.exists():
            raise SetupError(f"the type stubs have a {path.name} of their own; take it out of {Path(__file__).name}.")
        path.write_text(stub)
    for module, old, new in _REPLACED:
        path = stdlib / f"{module}.pyi"
        text = path.read_text()
        if text.count(old) != 1:
            raise SetupError(f"the type stubs' {path.name} is not as {Path(__file__).name} knows it; correct that.")
        path.write_text(text.replace(old, new))
