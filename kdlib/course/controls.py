"""Plain controls for a function of the learner's own, and a picture where no kernel can answer them."""

import base64
import html
import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt


class Controlled:
    """The figure that a function draws, with controls that have it drawn again.

    In a notebook this is what `ipywidgets.interact` makes. A built page, where no kernel answers, has the
    figure for the controls' first values.

    Args:
        draw: draws with `matplotlib.pyplot`, given the value of each control by name.
        alt: what the first figure shows, for readers who do not see it.
        controls: widgets of ipywidgets, by the arguments of `draw`.

    Raises:
        ValueError: there is no control, or the description is empty.
    """

    def __init__(self, draw: Callable[..., object], alt: str, **controls: ipywidgets.ValueWidget) -> None:
        if not controls:
            raise ValueError("there is no control; give a widget for each argument of the function.")
        if not alt.strip():
            raise ValueError("alt is empty; say what the figure shows.")
        self.alt = alt
        self.png = _png(draw, {name: control.value for name, control in controls.items()})
        drawn = ipywidgets.interactive_output(draw, controls)
        self.widget = ipywidgets.VBox([*controls.values(), drawn])

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        picture = base64.b64encode(self.png).decode("ascii")
        still = f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{picture}">'
        return {**(self.widget._repr_mimebundle_(**kwargs) or {}), "text/plain": self.alt, "text/html": still}


def _png(draw: Callable[..., object], values: dict[str, Any]) -> bytes:
    """What the function draws for these values."""
    with plt.ioff():
        draw(**values)
        figure, png = plt.gcf(), io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        plt.close(figure)
    return png.getvalue()
