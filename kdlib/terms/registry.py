"""`register`: terms of one's own, for recipes."""

from collections.abc import Callable
from typing import TypeVar

from kdlib.own import enter
from kdlib.terms.base import Term

Kind = TypeVar("Kind", bound=type[Term])


def register(name: str) -> Callable[[Kind], Kind]:
    """A decorator: a term of your own, under a name that recipes know it by.

    .. code-block:: python

        @register("Gram")
        class Gram(Term):
            name = "gram"

            def __init__(self, weight: float = 1.0, power: int = 2): ...

    A recipe file that has ``modules = ["my_terms"]`` imports ``my_terms.py``, which lies beside it, and may
    then say ``{kind = "Gram", power = 3}``. What a recipe gives is checked against the annotations.

    Args:
        name: letters, digits, "_", "-" and "."; none of kdlib's terms may have it.

    Raises:
        ValueError: the name is none, or taken, or what it is for is no class of terms.
    """

    def add(kind: Kind) -> Kind:
        if not (isinstance(kind, type) and issubclass(kind, Term)):
            raise ValueError(
                f"{name!r} is for {kind!r}, which is no term; write a class with kdlib.terms.Term as base."
            )
        if not hasattr(kind, "name"):
            raise ValueError(
                f'{kind.__name__} has no name for curves and records; write name = "…" in the class.'
            )
        enter("term", name, kind, is_ours=_is_ours(name))
        return kind

    return add


def _is_ours(name: str) -> bool:
    from kdlib import terms  # which imports this module

    return name in terms.__all__
