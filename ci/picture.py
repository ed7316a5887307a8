"""The README's picture: the first figure of chapter 1, as the last build in the quick profile drew it."""

from __future__ import annotations

import base64

from ci.chapters import CourseError, Repository, load_chapters, read_notebook
from ci.execute import write_whole

PLACE = ".github/picture.png"


def refresh(repository: Repository) -> int:
    """Copy the figure out of the executed notebook."""
    executed = repository.executed("quick", load_chapters(repository)[0].slug)
    if not executed.is_file():
        raise CourseError(f"{executed} is not there: run `python -m ci book` first.")
    outputs = [output for cell in read_notebook(executed)["cells"] for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    write_whole(repository.root / PLACE, base64.b64decode(pictures[0]))
    print(f"Wrote {PLACE}.")
    return 0
