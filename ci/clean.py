"""Remove what the commands built."""

from __future__ import annotations

import shutil
from pathlib import Path


def clean(root: Path) -> int:
    """Remove _build; the environment in .venv stays, because it costs minutes to make."""
    shutil.rmtree(root / "_build", ignore_errors=True)
    print("Removed _build.")
    return 0
