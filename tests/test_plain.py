"""Values as JSON: equal in every process where they are equal, and different where they are not."""

import json
import math
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import kdlib.plain
from kdlib.plain import plain, plain_repr

WARM_UP = 5


def ramp(step):
    return min(1.0, step / WARM_UP)


def ramp_to(top, share=1.0):
    return lambda step: top * share * ramp(step)


class Scaled:
    """A callable of a user's, which prints its place in memory."""

    def __init__(self, top):
        self.top = top

    def __call__(self, step):
        return self.top * step


class Slotted:
    __slots__ = ("top",)

    def __init__(self, top):
        self.top = top


class Printed:
    def __repr__(self):
        return "Printed()"


class Ring:
    def __init__(self):
        self.next = self


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ("a", "a"),
        ((0.9, [1, 2]), [0.9, [1, 2]]),
        ({1: (2,)}, {"1": [2]}),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        (torch.tensor([0.5, 1]), [0.5, 1.0]),
        (torch.tensor(2), 2),
        (float("inf"), "inf"),
        ({"b", "a"}, ["a", "b"]),
        (torch.float16, "torch.float16"),
        (torch.device("cpu"), "device(type='cpu')"),
        (Printed(), "Printed()"),
        (nn.ReLU(), "ReLU()"),
        (nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (math.cos, "math.cos"),
        (math, "math"),
    ],
)
def test_what_values_become(value, expected):
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (lambda: lambda step: 0.9**step, [lambda step: 0.8**step, lambda step: step**0.9, math.exp]),
        (lambda: ramp_to(2), [ramp_to(3), ramp_to(2, share=0.5), ramp, ramp_to(2.5)]),
        (lambda: partial(ramp_to, 2), [partial(ramp_to, 3), partial(ramp_to, 2, share=1.0), ramp_to]),
        (lambda: Scaled(2), [Scaled(3), Slotted(2)]),
        (lambda: Scaled(2).__call__, [Scaled(3).__call__, Scaled(2)]),
        (lambda: Slotted([1]), [Slotted([2]), Slotted([1, 1])]),
        (lambda: [Scaled(2), ramp], [[ramp, Scaled(2)], [Scaled(2)]]),
        (lambda: torch.arange(99.0), [torch.arange(99.0) + 1, torch.arange(99), torch.arange(99.0)[None]]),
        (lambda: Ring(), [Scaled(2)]),
    ],
)
def test_equal_values_are_one_and_others_are_not(make, others):
    assert plain(make()) == plain(make())
    assert " at 0x" not in plain_repr(make())
    for other in others:
        assert plain(other) != plain(make())
        assert plain_repr(other) != plain_repr(make())


def test_a_function_is_the_numbers_and_functions_around_it_too(monkeypatch):
    before = plain(ramp), plain(ramp_to(2))
    monkeypatch.setattr(sys.modules[__name__], "WARM_UP", 6)
    assert plain(ramp) != before[0]
    assert plain(ramp_to(2)) != before[1], "which calls it"


def test_the_code_of_an_objects_class_counts(monkeypatch):
    before = plain(Scaled(2))
    monkeypatch.setattr(Scaled, "__call__", lambda self, step: self.top + step)
    assert plain(Scaled(2)) != before


def test_another_process_says_the_same():
    """With other places in memory, and another order of sets. The module needs nothing of kdlib's."""
    values = "[lambda s: s in {'a', 'b', 'c'}, partial(max, 1), Made(), {'x', 'y', 'z'}]"
    program = (
        "import json, sys; from functools import partial\n"
        f"sys.path.insert(0, {str(Path(kdlib.plain.__file__).parent)!r})\n"
        "from plain import plain, plain_repr\n"
        "class Made:\n    def __init__(self): self.parts = {'p', 'q', 'r'}\n"
        f"values = {values}\n"
        "print(json.dumps([plain(values), *map(plain_repr, values)]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(said) == 1
    assert json.loads(said.pop())


def test_what_nothing_but_its_place_tells_from_another():
    with pytest.raises(ValueError, match=r"<unlocked _thread.lock .*> cannot be told from another lock"):
        plain({"guard": [threading.Lock()]})
    assert " at 0x" not in plain_repr(threading.Lock())


def test_what_prints_itself_is_left_as_it_prints():
    for value in (0.9, (1, 2), "text", [True, None], nn.Linear(2, 3), {"a": 1}):
        assert plain_repr(value) == repr(value)
