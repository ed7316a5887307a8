"""`make bench`: how long things take, in four parts that can be run one by one.

- commands: what the reader waits for.
- speed: training through kdlib beside a plain PyTorch loop, and what each step of the fast path adds.
- losses: what each loss adds to a training step.
- agreement: whether the fast path reaches the accuracy of the plain one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence

from ci.bench.report import describe_machine
from ci.chapters import CourseError, Repository

PARTS = ("commands", "speed", "losses", "agreement")


def bench(repository: Repository, only: Sequence[str] = ()) -> int:
    """Run the parts, print a table of each, and write them to _build/bench.json beside those run earlier."""
    unknown = sorted(set(only) - set(PARTS))
    if unknown:
        raise CourseError(f"Unknown part {unknown[0]!r}: the parts are {', '.join(PARTS)}.")
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
    return 0
