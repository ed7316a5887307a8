"""Which images a chapter was made from: kdlib notes every data set that it loads."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# As kdlib/data/notes.py has it; kdlib is not imported here, because torch takes seconds.
VARIABLE = "KDLIB_DATA_NOTES"


@contextmanager
def noting() -> Iterator[list[dict[str, Any]]]:
    """Gather the data sets that kernels load meanwhile; the list is filled at the end, each once."""
    noted: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        file = Path(folder) / "data.jsonl"
        os.environ[VARIABLE] = str(file)
        try:
            yield noted
        finally:
            del os.environ[VARIABLE]
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            noted += [json.loads(line) for line in dict.fromkeys(lines)]
