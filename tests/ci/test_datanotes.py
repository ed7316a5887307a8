"""The data sets that a chapter loaded are gathered from its kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from ci import datanotes

LOAD = "from kdlib import load_data; load_data('digits'); load_data('digits'); load_data('digits', size=16)"


def test_what_another_process_loads_before_it_fails_is_noted_once_each() -> None:
    gathered = []
    with suppress(subprocess.CalledProcessError), datanotes.noting() as data:
        gathered.append(data)
        subprocess.run([sys.executable, "-c", f"{LOAD}; exit(1)"], check=True)
    assert [each["data"].split(" ")[0] for each in gathered[0]] == ["digits", "digits"]
    assert len({each["fingerprint"] for each in gathered[0]}) == 2
    assert datanotes.VARIABLE not in os.environ


def test_a_chapter_that_loads_nothing() -> None:
    with datanotes.noting() as data:
        pass
    assert data == []
