"""The examples of the API reference run as they stand, on what they name."""

import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kdlib
from kdlib import load_data
from kdlib.data import ImageData, Split
from kdlib.models import create_model


def examples() -> Iterator[Any]:
    """Every code block in a docstring of kdlib, by what it describes."""
    for module in pkgutil.walk_packages(kdlib.__path__, "kdlib."):
        if module.name.startswith("kdlib.course"):
            continue
        for name, item in vars(importlib.import_module(module.name)).items():
            if getattr(item, "__module__", None) != module.name:
                continue
            for owner in (item, *(vars(item).values() if isinstance(item, type) else ())):
                text = inspect.getdoc(getattr(owner, "__func__", owner)) or ""
                if ".. code-block:: python\n\n" in text and (owner is item or callable(owner)):
                    for block in text.split(".. code-block:: python\n\n")[1:]:
                        lines = block.splitlines()
                        end = next((n for n, line in enumerate(lines) if line and line[0] != " "), len(lines))
                        label = f"{module.name}.{name}.{getattr(owner, '__name__', '')}"
                        yield pytest.param(textwrap.dedent("\n".join(lines[:end])), module.name, id=label)


def photographs() -> ImageData:
    images = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8)
    part = Split(images, torch.arange(12) % 3, ("a", "b", "c"), (0.4,) * 3, (0.2,) * 3)
    return ImageData("photographs", part, part, part)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdlib.own._OWN", {"term": {}, "network": {}, "data set": {}})
    for number in range(12):
        place = tmp_path / "photos" / "pets" / ("cats", "dogs")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (9 * number,) * 3).save(place / f"{number}.png")
    digits = load_data("digits")
    first = digits.train.balanced(20)
    images, labels, _ = next(first.batches(20))
    student, teacher, peer, other = (create_model("resnet8", 10, in_channels=1, seed=n) for n in range(4))
    everything = {name: getattr(kdlib, name) for name in kdlib.__all__}
    for room in ("data", "experiments", "models", "schemes", "terms", "training"):
        module = importlib.import_module(f"kdlib.{room}")
        everything |= {name: item for name, item in vars(module).items() if not name.startswith("_")}
    return everything | {
        "data": ImageData("digits", first, digits.val, digits.test.subset(range(20))),
        "images": images, "labels": labels, "dataset": TensorDataset(images, labels),
        "student": student, "teacher": teacher, "peer": peer, "other": other,
        "target": torch.zeros(20, 16, 8, 8), "terms": [kdlib.HardLabels(), kdlib.SoftTargets()],
        "torch": torch, "nn": nn, "DataLoader": DataLoader,
        "STATISTICS": ((0.5,) * 3, (0.5,) * 3),
    }  # fmt: skip


def test_there_are_examples() -> None:
    assert len(list(examples())) > 10


@pytest.mark.parametrize(("code", "module"), list(examples()))
def test_an_example_runs(names: dict[str, Any], code: str, module: str) -> None:
    if 'load_data("caltech101"' in code:
        names["load_data"] = lambda *_, **__: photographs()
    # Its own names go before those of other rooms: three have a `register`.
    own = vars(importlib.import_module(module))
    names |= {name: own[name] for name in ("register",) if name in own}
    names["fit"] = quick
    exec(compile(code, module, "exec"), names)


def quick(model: nn.Module, train: Any, **options: Any) -> Any:
    return kdlib.fit(model, train, **(options | {"epochs": 1, "progress": False, "device": "cpu"}))
