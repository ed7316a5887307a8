"""Run records: one JSON file a run, in ``data/results`` where it is evidence."""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

FORMAT = 2
_ROOT = Path(__file__).resolve().parents[2]
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
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The digest of a recipe is one of all its digits.
        fields = {key: value if key == "recipe" else _rounded(value) for key, value in asdict(self).items()}
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
            whole = Path(folder) / target.name
            whole.write_text(text, encoding="utf-8")
            return whole.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RunRecord":
        """Read a record.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a record, or one of a newer version of kdlib.
        """
        return cls.parse(Path(path).read_bytes(), str(path))

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


def keep(records: Mapping[str, Sequence[RunRecord]], experiment: str, profile: str) -> int:
    """Write the records of an experiment to ``data/results``, one file a run; return how many were written.

    The quick profile writes nothing: its numbers are shown where they are made and are no evidence beyond.

    Args:
        records: for each label, its runs.
        experiment: name of the folder, such as "01-why-distil".
        profile: of the run.
    """
    if profile == "quick":
        return 0
    folder = results_folder() / experiment
    for label, runs in records.items():
        for run in runs:
            named = replace(run, label=label, profile=profile)
            named.save(folder / named.place)
    return sum(len(runs) for runs in records.values())


def recorded(experiment: str, profile: str) -> dict[str, list[RunRecord]]:
    """The kept runs of an experiment by label, in order of their seeds; empty where none has run yet."""
    runs = [RunRecord.load(path) for path in (results_folder() / experiment / profile).glob("[!.]*.json")]
    by_label: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: (run.started, run.seed)):
        by_label.setdefault(run.label, []).append(run)
    return {label: sorted(kept, key=lambda run: run.seed) for label, kept in by_label.items()}


def results_folder() -> Path:
    """``data/results`` of the course, or the folder that KDLIB_RESULTS names."""
    return Path(os.environ.get("KDLIB_RESULTS", _ROOT / "data" / "results"))


def _rounded(value: Any) -> Any:
    """Floats with six significant digits: more is noise, and records are kept in the repository."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")
