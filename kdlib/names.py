"""What a name that nothing has may have been meant to be."""

import difflib
from collections.abc import Iterable

# More names than these are not all listed.
_MANY = 20


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is, as the end of an error message."""
    names = list(known)
    meant = " or ".join(map(repr, close(name, names)))
    if len(names) <= _MANY:
        return f"{f'did you mean {meant}? There are' if meant else 'there are'}: {', '.join(names)}."
    return f"did you mean {meant}?" if meant else f"there are {len(names)}, such as {', '.join(names[:3])}."


def close(name: str, known: Iterable[str]) -> list[str]:
    """The up to three names that are most like one, in whatever case it is written; none if none is."""
    by_lower = {each.lower(): each for each in known}
    return [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower)]
