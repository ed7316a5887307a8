"""Kept runs: one JSON file each in ``data/results``, where it is evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kdlib.data.catalogue import user_cache
from kdlib.paths import REPOSITORY, folder_from
from kdlib.training.record import RunRecord


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
    """The folder that KDLIB_RESULTS names, or ``data/results`` of the course.

    Where the package is installed without the course, it is ``kdlib/results`` in the user's cache folder.
    """
    is_course = (REPOSITORY / "pyproject.toml").is_file()
    return folder_from("KDLIB_RESULTS") or (REPOSITORY / "data" if is_course else user_cache()) / "results"
