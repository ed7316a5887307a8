"""The data sets that a chapter loaded are gathered from its kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from ci import datanotes
from kdlib.data import notes

LOAD = "from kdlib import load_data; load_data('digits'); load_data('digits'); load_data('digits', size=16)"


def test_both_sides_mean_the_same_variable() -> None:
    assert datanotes.VARIABLE == notes.VARIABLE


def test_what_another_process_loads_is_noted_once_each() -> None:
    with datanotes.noting() as data:
        subprocess.run([sys.executable, "-c", LOAD], check=True)
    assert [each["data"].split(" ")[0] for each in data] == ["digits", "digits"]
    assert len({each["fingerprint"] for each in data}) == 2
    assert datanotes.VARIABLE not in os.environ


def test_what_was_loaded_before_a_failure_is_noted_too() -> None:
    gathered = []
    with suppress(subprocess.CalledProcessError), datanotes.noting() as data:
        gathered.append(data)
        subprocess.run([sys.executable, "-c", f"{LOAD}; exit(1)"], check=True)
    assert len(gathered[0]) == 2
    assert datanotes.VARIABLE not in os.environ


def test_a_chapter_that_loads_nothing() -> None:
    with datanotes.noting() as data:
        pass
    assert data == []
