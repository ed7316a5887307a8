"""Terms, networks and data sets of one's own: registered, made by name, refused."""

import subprocess
import sys

import pytest
import torch

from kdlib import create_model, data, load_data, models, terms


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    """And nothing left behind."""
    monkeypatch.setattr("kdlib.own._OWN", {"term": {}, "network": {}, "data set": {}})


def tiny(num_classes, in_channels, width=2):
    return create_model("convnet", num_classes, in_channels=in_channels, width=width)


def halves(size=8):
    return load_data("digits", size=size)


class Mean(terms.Term):
    name = "mean"

    def __init__(self, weight: float = 1.0):
        super().__init__(weight)


def test_a_network_is_made_by_its_name_and_by_its_seed():
    assert models.register("tiny")(tiny) is tiny, "a decorator leaves the function as it is"
    one, same, wide = (create_model("tiny", 3, seed=5, width=width) for width in (2, 2, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert models.count_parameters(wide) > models.count_parameters(one)
    assert "tiny" in models.list_models()
    with pytest.raises(ValueError, match="no model is called 'tinny'; did you mean 'tiny'"):
        create_model("tinny", 3)


def test_a_network_that_refuses_an_option_and_one_that_fails_are_two_things():
    models.register("tiny")(tiny)
    with pytest.raises(ValueError, match=r"tiny does not take these options, .*'wide'"):
        create_model("tiny", 3, wide=4)
    models.register("broken")(lambda num_classes, **_: "x" + num_classes)
    with pytest.raises(TypeError, match="can only concatenate"):
        create_model("broken", 3)
    models.register("none")(lambda **_: None)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"none gives None, which is no network; return a torch\.nn\.Module"):
        create_model("none", 3)


def test_a_data_set_is_loaded_by_its_name():
    data.register("halves")(halves)
    assert load_data("halves", size=16).train.images.shape[-1] == 16
    assert "halves" in data.list_data()
    assert load_data("halves").train.source.startswith("digits, train")
    with pytest.raises(ValueError, match=r"load_data\('halves'\) has no option 'root'; its options are size"):
        load_data("halves", root="x")
    data.register("none")(lambda: 3)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"the data set 'none' gives 3; return a kdlib\.data\.ImageData"):
        load_data("none")


ROOMS = [(terms, Mean, "HardLabels"), (models, tiny, "resnet20"), (data, halves, "cifar10")]
PLACES = [room.__name__ for room, *_ in ROOMS]


@pytest.mark.parametrize(("room", "thing", "ours"), ROOMS, ids=PLACES)
def test_a_name_that_is_taken_is_refused(room, thing, ours):
    with pytest.raises(ValueError, match=f"called '{ours}' already; give yours another name"):
        room.register(ours)(thing)
    room.register("mine")(thing)
    other = type("Other", (Mean,), {}) if room is terms else lambda: None
    with pytest.raises(ValueError, match="called 'mine' already; give yours another name"):
        room.register("mine")(other)


def test_the_names_of_all_networks_of_torchvision_are_taken():
    with pytest.raises(ValueError, match="a network called 'alexnet' already"):
        models.register("alexnet")(tiny)


@pytest.mark.parametrize(("room", "thing"), [each[:2] for each in ROOMS], ids=PLACES)
def test_what_is_defined_anew_replaces_the_old(room, thing):
    """As where a cell of a notebook runs twice."""
    room.register("mine")(thing)
    again = (
        type("Mean", (terms.Term,), {"__module__": __name__, "name": "mean"})
        if room is terms
        else _copy(thing)
    )
    assert room.register("mine")(again) is again


def _copy(function):
    again = type(function)(function.__code__, globals())
    again.__module__, again.__qualname__ = function.__module__, function.__qualname__
    return again


@pytest.mark.parametrize(("room", "thing"), [each[:2] for each in ROOMS], ids=PLACES)
@pytest.mark.parametrize("name", ["", "folder:x", "a/b", "2nd"])
def test_a_name_that_is_none_is_refused(room, thing, name):
    with pytest.raises(ValueError, match=r"the name of a .* is '.*'; write one of letters, digits"):
        room.register(name)(thing)


@pytest.mark.parametrize(("room", "thing"), [each[:2] for each in ROOMS], ids=PLACES)
def test_a_decorator_without_a_name_is_told_to_have_one(room, thing):
    with pytest.raises(ValueError, match=r'such as @register\("mine"\)'):
        room.register(thing)(thing)


@pytest.mark.parametrize(
    ("room", "thing", "said"),
    [
        (terms, tiny, r"which is no term; write a class with kdlib\.terms\.Term as base"),
        (terms, torch.nn.ReLU, "which is no term"),
        (
            terms,
            type("Nameless", (terms.Term,), {}),
            'Nameless has no name .*; write name = "…" in the class',
        ),
        (models, "resnet", "which cannot be called; give a function that makes it"),
        (data, "folder", "which cannot be called; give a function that loads the images"),
    ],
)
def test_what_is_none_is_refused(room, thing, said):
    with pytest.raises(ValueError, match=said):
        room.register("mine")(thing)


def test_registering_takes_nothing_along():
    code = "import sys, kdlib, kdlib.own; assert not {'pydantic', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
