"""LiveFigure: a widget where there is a kernel, and a self-contained live figure where there is none."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent

# Class names may hold a dollar sign: no mathematics in the stills.
STILL_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}

PAGE = """<div class="kdlib-live">
<img alt="{alt}" src="data:image/png;base64,{picture}" style="max-width: 100%; height: auto">
<noscript><p>With scripts on, this picture has controls.</p></noscript>
<script type="application/json">{content}</script>
<script>{boot}</script>
</div>"""


FROM_KIT = re.compile(r'^import \{[^}]*\} from "\./kit\.js";\n', re.MULTILINE)


def module(name: str) -> str:
    """The figure's ES module: the shared kit.js and NAME.js, which imports it for linters and types only."""
    kit, figure = ((HERE / file).read_text(encoding="utf-8") for file in ("kit.js", f"{name}.js"))
    return f"{kit}\n{FROM_KIT.sub('', figure)}"


class LiveFigure(anywidget.AnyWidget):
    """A figure with controls that works in JupyterLab and Colab, and in a built page without a kernel.

    A subclass names its module in `_esm`, puts the numbers it shows into `state` (constant, JSON-able), has a
    synced trait for each control it lists in `controls`, and says and draws its finding in `alt_text` and
    `draw`, for readers without scripts.
    """

    _esm: ClassVar[str]
    _css = (HERE / "live.css").read_text(encoding="utf-8")

    state = traitlets.Dict().tag(sync=True)
    controls: ClassVar[tuple[str, ...]] = ()
    size: ClassVar[tuple[float, float]] = (9.0, 3.2)

    def alt_text(self) -> str:
        """What the figure shows, with its numbers, in a sentence or two."""
        raise NotImplementedError

    def draw(self, figure: Figure) -> None:
        """Draws the figure as it stands onto a matplotlib figure."""
        raise NotImplementedError

    def picture(self) -> bytes:
        """The figure as it stands, as a PNG on an opaque white ground."""
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(STILL_STYLE):
            figure = Figure(figsize=self.size, dpi=110, layout="constrained", facecolor="white")
            self.draw(figure)
            png = io.BytesIO()
            figure.savefig(png, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
        return png.getvalue()

    def page(self) -> str:
        """HTML that is this figure, alive without a kernel or a network; with scripts off, its picture."""
        traits = {name: getattr(self, name) for name in ("state", *self.controls)}
        content = json.dumps({"module": self._esm, "css": self._css, "traits": traits}, allow_nan=False)
        return PAGE.format(
            alt=html.escape(self.alt_text()),
            picture=base64.b64encode(self.picture()).decode("ascii"),
            # Only "<" can end or hide a script element, and JSON may write it as an escape anywhere.
            content=content.replace("<", "\\u003c"),
            boot=(HERE / "boot.js").read_text(encoding="utf-8"),
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/plain": self.alt_text(), "text/html": self.page()}, metadata
