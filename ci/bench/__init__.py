"""`make bench`: how long things take, in parts that can be run one by one.

- commands: what the reader waits for.
- pages: how soon the first live figure of each page answers.
- speed: training through kdlib beside a plain PyTorch loop, and what each step of its acceleration adds.
- losses: what each loss adds to a training step.
- agreement: whether what is accelerated reaches the accuracy of the plain loop.

What the losses cost is also kept in data/measured, if that is asked for: the method cards show it.
"""

from __future__ import annotations

import datetime
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ci.bench.report import describe_machine
from ci.chapters import CourseError, Repository

PARTS = ("commands", "pages", "speed", "losses", "agreement")
KEPT = Path("data/measured/losses.json")


def bench(repository: Repository, only: Sequence[str] = (), keep: bool = False) -> int:
    """Run the parts, print a table of each, and write them to _build/bench.json beside those run earlier.

    Args:
        repository: the course.
        only: parts to run; all where none is named.
        keep: whether the costs of the losses go to data/measured, for the method cards.

    Raises:
        CourseError: there is no such part, or the losses are to be kept and not to be run.
    """
    unknown = sorted(set(only) - set(PARTS))
    if unknown:
        raise CourseError(f"Unknown part {unknown[0]!r}: the parts are {', '.join(PARTS)}.")
    if keep and only and "losses" not in only:
        raise CourseError(
            f"--keep keeps the part losses, and --only names {' '.join(only)}: add losses to it."
        )
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    target = repository.build / "bench.json"
    result = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for name in [part for part in PARTS if part in only or not only]:
        print(f"\n== {name}", flush=True)
        part = importlib.import_module(f"ci.bench.{name}").bench(repository)
        print("\n".join(part.lines), flush=True)
        result[name] = {"machine": machine, "rows": part.rows}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if keep:
        keep_costs(repository.root / KEPT, result["losses"])
    return 0


def keep_costs(target: Path, losses: dict[str, Any]) -> None:
    """Write what the losses cost, with the day, in the place of an earlier measurement."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    part.write_text(json.dumps({"measured": today} | losses, indent=1) + "\n", encoding="utf-8")
    part.replace(target)
    print(f"\nThe method cards now show these costs: {target}")
