"""Of the jobs of a run, as GitHub lists them on stdin, the names of those whose machine vanished.

A machine that is there to the end hands in what it has, after a failure too. `ci/gpu/retry.sh` runs this,
with a bare Python.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any


def vanished(jobs: list[dict[str, Any]]) -> Iterator[str]:
    """The jobs that execute chapters, did not succeed, and handed nothing in."""
    for job in jobs:
        steps = job.get("steps") or []
        handed_in = any(s["name"].startswith("Hand in") and s["conclusion"] == "success" for s in steps)
        if job["name"].startswith("chapters") and job["conclusion"] == "failure" and not handed_in:
            yield job["name"]


if __name__ == "__main__":
    print("\n".join(vanished(json.load(sys.stdin)["jobs"])))
