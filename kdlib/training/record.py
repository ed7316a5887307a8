"""`RunRecord`: what a training run was, and what came of it; one JSON file a run."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdlib.files import written_whole
from kdlib.paths import given_path

FORMAT = 2
_KINDS = {"seed": int, "label": str, "profile": str, "started": str, "recipe": dict | None} | dict.fromkeys(
    ("settings", "data", "epochs", "final", "environment"), dict
)


@dataclass(frozen=True)
class RunRecord:
    """Everything that tells one training run from another, and what came of it.

    Attributes:
        seed: of the order of images and of augmentation.
        settings: the loop's arguments, the terms of the loss, student and teacher.
        data: where the training images come from, their number, and their fingerprint.
        epochs: a list of values for each name, one value per epoch ("loss", the terms, "test_accuracy").
        final: metrics after the last epoch, as fractions.
        environment: versions, device, threads, and the commit of the code.
        started: ISO 8601, UTC.
        seconds: wall time of the training.
        label: what the run is called in a table, such as "taught".
        profile: "quick", "short" or "full".
        recipe: what was run, with its name and digest; None where no recipe was.
    """

    seed: int
    settings: dict[str, Any]
    data: dict[str, Any]
    epochs: dict[str, list[float]]
    final: dict[str, float]
    environment: dict[str, Any]
    started: str
    seconds: float
    label: str = ""
    profile: str = "quick"
    recipe: dict[str, Any] | None = None
    format: int = field(default=FORMAT)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON, whole or not at all; an older file of that name is replaced."""
        # The digest of a recipe is one of all its digits.
        fields = {key: value if key == "recipe" else _rounded(value) for key, value in asdict(self).items()}
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"
        with written_whole(path) as file:
            file.write(text.encode())
        return given_path(path, "file")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RunRecord":
        """Read a record.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a record, or one of a newer version of kdlib.
        """
        return cls.parse(given_path(path, "file").read_bytes(), str(path))

    @classmethod
    def parse(cls, text: bytes, name: str) -> "RunRecord":
        """A record from the contents of its file.

        Args:
            text: UTF-8.
            name: of the file, for messages.

        Raises:
            ValueError: as `load`.
        """
        try:
            fields = json.loads(text)
            written = int(fields["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{name} is not a run record ({type(error).__name__}: {error}); remove it."
            ) from error
        if written > FORMAT:
            raise ValueError(f"{name} has format {written}, newer than this kdlib's {FORMAT}; update kdlib.")
        try:
            # Format 1 had no recipe, and was otherwise the same.
            record = cls(**(fields | {"format": FORMAT}))
        except TypeError as error:
            raise ValueError(f"{name} is not a run record ({error}); remove it.") from error
        for key, kind in _KINDS.items():
            if not isinstance(getattr(record, key), kind):
                raise ValueError(
                    f"{name} is not a run record (its {key} is {getattr(record, key)!r}); remove it."
                )
        return record

    @property
    def place(self) -> str:
        """Where the record is kept, below ``data/results``, in the folder of its experiment."""
        return f"{self.profile}/{_slug(self.label)}-seed{self.seed}.json"


def _rounded(value: Any) -> Any:
    """Floats with six significant digits: more is noise, and records are kept in the repository."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")
