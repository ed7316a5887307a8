"""What all tests share: one thread a process, what they may go without, and what several rooms test with."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# One thread for each worker and for all that it starts: several that share the cores wait for each other.
# torch reads this when it is imported, which nothing above does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts `make test` in the background has all of it ignore Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)

MADE = """
title = "Made for the tests"
source = "none"
seeds = {seeds}

[base]
data = {{name = "digits", train_images = 60}}
student = {{name = "convnet", options = {{width = 4}}}}
terms = [{{kind = "HardLabels"}}]
training = {{epochs = 4, batch_size = 16, learning_rate = 0.1, weight_decay = 5e-4, optimizer = "SGD"}}

[singles.teacher]
seeds = [100]
student = {{name = "convnet", options = {{width = 8}}}}

[singles.taught]
teacher = "made/teacher@100"
terms = [{{kind = "HardLabels"}}, {{kind = "SoftTargets", temperature = 4.0}}]

[singles.tuned]
student = {{name = "convnet", options = {{width = 8}}, start = "made/teacher@100", head_only = true}}

[singles.diverging]
training = {{learning_rate = 1e30}}
"""


# What a machine may lack: tests that need it skip there, or fail where KDLIB_REQUIRE="browser,slurm" names
# them.
CAN_BE_MISSING = {"browser", "slurm", "seeds", "data"}


def pytest_configure() -> None:
    unknown = ", ".join(sorted(required() - CAN_BE_MISSING))
    if unknown:
        known = ", ".join(sorted(CAN_BE_MISSING))
        raise pytest.UsageError(f"KDLIB_REQUIRE names {unknown}: it can name {known}.")


def required() -> set[str]:
    """What this machine says that it has."""
    return set(filter(None, os.environ.get("KDLIB_REQUIRE", "").split(",")))


@pytest.fixture(scope="session")
def lacking() -> Callable[[str, str], NoReturn]:
    """Ends a test for want of one of these things, with what to do about it."""

    def end(what: str, said: str) -> NoReturn:
        assert what in CAN_BE_MISSING
        if what in required():
            pytest.fail(f"KDLIB_REQUIRE names {what}: {said}", pytrace=False)
        pytest.skip(said)

    return end


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no worker is left with one at the end; a module's fixture on one worker."""
    items.sort(key=lambda item: item.get_closest_marker("system") is None)
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
        if any(fixture[-1].scope == "module" for fixture in fixtures):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture
def make_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int], str], Path]:
    """Recipes, runs and results of a test alone: the family "made", with these seeds and more singles."""

    def make(seeds: list[int], more: str) -> Path:
        (tmp_path / "recipes").mkdir()
        (tmp_path / "recipes" / "made.toml").write_text(MADE.format(seeds=seeds) + more)
        for name in ("recipes", "runs", "results"):
            monkeypatch.setenv(f"KDLIB_{name.upper()}", str(tmp_path / name))
        return tmp_path

    return make


@pytest.fixture(scope="session")
def browser(lacking: Callable[[str, str], NoReturn]) -> Iterator[Browser]:
    """One headless Chromium for the session, in which each test opens its own page."""
    # The tests of what trains need nothing of ci, and run without its packages.
    from ci.pages.browser import find_chromium, open_browser

    if importlib.util.find_spec("playwright") is None:
        lacking("browser", "playwright is not installed: pip install kdlib[dev]")
    if find_chromium() is None:
        lacking("browser", "no Chromium found: apt-get install chromium, or set KDLIB_CHROMIUM to its path")
    with open_browser() as chromium:
        yield chromium


@pytest.fixture
def no_waiting() -> Callable[[], AbstractContextManager[object]]:
    """A context in which a copy from the CPU to the device `meta` fails that a GPU would finish first.

    That device stands for a GPU: it has no numbers, so whatever reads one back raises there by itself.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoWaiting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            options = kwargs or {}
            if function is torch.ops.aten._to_copy.default and args[0].device.type != "meta":
                waits = options.get("device") == torch.device("meta") and not options.get("non_blocking")
                assert not waits, "a GPU would be waited for"
            return function(*args, **options)

    return NoWaiting
