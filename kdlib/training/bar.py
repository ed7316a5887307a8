"""The progress of a training, in a notebook, in a terminal, and in a log."""

import sys
from typing import Any

from tqdm.auto import tqdm

# A log keeps every line, so that it gets one now and then and no more.
_SECONDS_BETWEEN_LOG_LINES = 30.0


class _Lines:
    """A stream on which every state of the bar is a line of its own."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        return sys.stderr.write(line + "\n") if line else 0

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(images: int, done: int, shown: bool) -> Any:
    """A bar over all images of all epochs, with their rate and the time left.

    Args:
        images: in all epochs together.
        done: in an earlier sitting.
        shown: whether there is a bar at all.
    """
    where: dict[str, Any] = {}
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        where = {"file": _Lines(), "mininterval": _SECONDS_BETWEEN_LOG_LINES, "ncols": 100, "ascii": True}
    return tqdm(
        total=images,
        initial=done,
        desc="training",
        unit=" images",
        unit_scale=True,
        leave=False,
        disable=not shown,
        **where,
    )
