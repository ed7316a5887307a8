"""What tells one recipe from another, as a record has it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Names, profile and seeds do not count: two names of one content are one run.
_CONTENT = ("data", "student", "training", "augmentation", "terms", "first_stage", "teacher", "start")


def digest_of(recipe: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of what a recipe computes; its teacher and start count by digest and seed.

    Args:
        recipe: as `kdlib.experiments.recipes.Recipe.as_dict` gives it, or as a record has it.

    Raises:
        ValueError: a part is missing.
    """
    try:
        content = {key: recipe[key] for key in _CONTENT}
        for key in ("teacher", "start"):
            if content[key] is not None:
                content[key] = {part: content[key][part] for part in ("digest", "seed")}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"its recipe is not whole ({type(error).__name__}: {error}); run it again."
        ) from error
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_digest(recipe: Mapping[str, Any] | None, name: str) -> None:
    """Raise ValueError unless a record's recipe has the digest that it says; None has none to check.

    Args:
        recipe: of the record.
        name: of the record's file, for the message.
    """
    if recipe is None:
        return
    try:
        found = digest_of(recipe)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if recipe.get("digest") != found:
        raise ValueError(
            f"{name} says that its recipe has the digest {recipe.get('digest')!r}, and it has {found!r}: the "
            "record was changed or damaged; take it from where it was made, or run its recipe again."
        )
