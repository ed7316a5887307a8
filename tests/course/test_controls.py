"""Controls of a learner's own function: alive in a notebook, a described picture on a page."""

import io

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from kdlib.course.controls import Controlled

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def drawn():
    return []


@pytest.fixture
def controlled(drawn):
    def draw(height, sign):
        drawn.append((height, sign))
        plt.bar(["a", "b"], [sign * height, 1])

    slider = ipywidgets.FloatSlider(value=2, min=0, max=5)
    yield Controlled(draw, 'Two "bars"', height=slider, sign=ipywidgets.Dropdown(options=[1, -1]))
    plt.close("all")


def test_a_page_has_the_figure_of_the_first_values_with_its_words(controlled, drawn):
    bundle = controlled._repr_mimebundle_()
    assert bundle["text/html"].startswith('<img alt="Two &quot;bars&quot;" src="data:image/png;base64,')
    assert Image.open(io.BytesIO(controlled.png)).size[0] > 100
    assert drawn[0] == (2, 1)


def test_a_notebook_has_the_controls_and_each_draws_again(controlled, drawn):
    assert controlled._repr_mimebundle_()[WIDGET_VIEW]["model_id"] == controlled.widget.model_id
    slider, choice, _ = controlled.widget.children
    slider.value, choice.value = 3, -1
    assert drawn[-2:] == [(3, 1), (3, -1)]


def test_without_controls_or_words():
    with pytest.raises(ValueError, match="there is no control"):
        Controlled(plt.plot, "a line")
    with pytest.raises(ValueError, match="alt is empty"):
        Controlled(lambda x: plt.plot([x]), " ", x=ipywidgets.IntSlider())
