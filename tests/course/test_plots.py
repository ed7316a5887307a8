"""Figures hold the numbers they were given."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from kdlib.course import plots

mpl.use("agg")


@pytest.fixture(autouse=True)
def _own_style():
    with mpl.rc_context():
        plots.style()
        yield
    plt.close("all")


def test_figures_have_an_opaque_ground():
    assert mpl.colors.to_rgba(plt.figure().get_facecolor()) == (1, 1, 1, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_side_by_side(channels):
    images = torch.randint(0, 256, (7, channels, 8, 8), dtype=torch.uint8)
    figure = plots.show_images(images, [str(number) for number in range(7)], columns=4)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == list("0123456")
    pixels = np.asarray(shown[3].images[0].get_array())
    np.testing.assert_array_equal(pixels.reshape(8, 8, channels), images[3].permute(1, 2, 0).numpy())


def test_probabilities_are_the_heights_of_the_bars():
    axis = plt.figure().subplots()
    plots.probabilities(axis, torch.tensor([0.2, 0.7, 0.1]), ("a", "b", "c"), highlight=1)
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([0.2, 0.7, 0.1])  # type: ignore[attr-defined]
    assert axis.patches[1].get_alpha() > axis.patches[0].get_alpha()


def test_seed_dots_show_every_seed_and_the_mean():
    axis = plt.figure().subplots()
    plots.seed_dots(axis, {"alone": [0.8, 0.9], "taught": [0.95]})
    assert axis.collections[0].get_offsets()[:, 1].tolist() == pytest.approx([80, 90])
    assert [text.get_text() for text in axis.texts] == ["85.0", "95.0"]


def test_recorded_seeds_are_pale_and_the_mean_is_theirs():
    axis = plt.figure().subplots()
    rows = {"alone": ("labels", "#000000"), "new": ("not recorded", "#111111")}
    rows["none"] = ("not run", "#222222")
    plots.recorded_dots(axis, rows, {"alone": [0.5, 0.7, 0.9]}, {"alone": [0.4], "new": [0.2, 0.3]})
    past, now, none, new = axis.collections
    np.testing.assert_allclose(past.get_offsets(), [[50, 0], [70, 0], [90, 0]])
    np.testing.assert_allclose(now.get_offsets(), [[40, 0]])
    assert (len(none.get_offsets()), len(new.get_offsets())) == (0, 2)
    assert (past.get_alpha() or 1) < (now.get_alpha() or 1)
    assert [text.get_text() for text in axis.texts] == ["70.0", "25.0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["labels", "not recorded", "not run"]
