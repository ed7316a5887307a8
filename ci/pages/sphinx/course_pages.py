"""The course's Sphinx extension: mathematics by a vendored KaTeX, our look, repairs to the theme."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.math import get_node_equation_number, wrap_displaymath
from sphinx.writers.html5 import HTML5Translator

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
# Sphinx numbers equations; KaTeX would number these environments once more.
UNNUMBERED = re.compile(r"(\\(?:begin|end)\{(?:align|alignat|equation|gather))\}")
# The corner of a table with headings on two sides heads nothing.
EMPTY_HEADER = re.compile(r"<th\b[^>]*>\s*(?:<p>\s*</p>)?\s*</th>")
KATEX = "vendor/katex/katex.min"


def visit_inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write inline TeX as the text of a span; mathematics.js lets KaTeX render it."""
    self.body.append(f"{self.starttag(node, 'span', '', CLASS='math')}{self.encode(node.astext())}</span>")
    raise nodes.SkipNode


def visit_block_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write displayed TeX as a box of its own, after the equation's number if it has a label."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    tex = node.astext()
    tex = UNNUMBERED.sub(r"\1*}", tex) if node["nowrap"] else wrap_displaymath(tex, None, False)
    self.body.append(f'<div class="tex">{self.encode(tex.strip())}</div></div>\n')
    raise nodes.SkipNode


def use_our_static_files(_app: Sphinx, config: Config) -> None:
    """Serve static/ from here: Jupyter Book would add every script found in book/_static to every page."""
    config.html_static_path.append(str(STATIC))
    config.templates_path.append(str(TEMPLATES))
    config.html_logo = str(STATIC / "logo.svg")
    config.html_favicon = str(STATIC / "logo.svg")


def finish_page(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Load what only some pages need, and take away roles that screen readers reject."""
    body = context.get("body", "")
    if 'class="math' in body:
        app.add_css_file(f"{KATEX}.css")
        app.add_js_file(f"{KATEX}.js", priority=400, loading_method="defer")
        app.add_js_file("mathematics.js", priority=410, loading_method="defer")
    if 'class="prediction"' in body:
        app.add_css_file("predictions.css", priority=950)
        app.add_js_file("predictions.js", priority=950, loading_method="defer")
    body = body.replace(' role="doc-biblioentry"', "")
    body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    context["body"] = EMPTY_HEADER.sub("<td></td>", body)


def drop_fontawesome_script(app: Sphinx, exception: Exception | None) -> None:
    """Empty the theme's script of 1.45 MB: its icons come from its stylesheet and fonts."""
    script = Path(app.outdir) / "_static/scripts/fontawesome.js"
    if exception is None and script.exists():
        script.write_text("// See ci/pages/sphinx/course_pages.py.\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the parts with Sphinx."""
    app.add_html_math_renderer(
        "katex", inline_renderers=(visit_inline_math, None), block_renderers=(visit_block_math, None)
    )
    app.connect("config-inited", use_our_static_files)
    app.connect("html-page-context", finish_page)
    app.connect("build-finished", drop_fontawesome_script)
    app.add_css_file("icons.css", priority=900)
    app.add_css_file("course.css", priority=900)
    app.add_js_file("course.js", priority=900, loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
