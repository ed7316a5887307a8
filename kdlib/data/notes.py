"""A note of every data set that is loaded, for whoever executes a chapter and says what it was made from."""

import json
import os
from pathlib import Path

from kdlib.data.split import ImageData

VARIABLE = "KDLIB_DATA_NOTES"


def note(data: ImageData) -> None:
    """Add a line of JSON to the file that KDLIB_DATA_NOTES names, if it names one."""
    if file := os.environ.get(VARIABLE):
        images = {part: getattr(data, part) for part in ("train", "val", "test")}
        about = {
            "data": f"{data.name} ({data.division})",
            "images": {part: len(split) for part, split in images.items()},
            "fingerprint": data.train.fingerprint(),
        }
        with Path(file).open("a", encoding="utf-8") as notes:
            notes.write(json.dumps(about) + "\n")
