"""A Sphinx extension: what pages need to be found and shared, and no reader of an offline copy does.

`sphinxext.opengraph` writes each page's description and preview. Here are the address that it needs, the
preview at the front page's short address, the list of all pages for search engines, and the page not found.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

PICTURE = Path(__file__).parents[3] / ".github" / "picture.png"
NOT_FOUND = "404"
SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
# Who fetches a page for its preview follows no redirection, and people pass on the shortest address.
INDEX = """\
<!DOCTYPE html>
<html lang="en-GB">
  <head>
    <meta charset="utf-8" />
    <title>{title}</title>
    <meta http-equiv="refresh" content="0; url={page}" />
    <link rel="canonical" href="{address}" />
    {tags}
  </head>
</html>
"""


def know_the_address(_app: Sphinx, config: Config) -> None:
    """Hand on the address and the title of _config.yml; add the course's picture and the page not found."""
    config.ogp_site_url = config.html_baseurl
    config.ogp_site_name = config.html_title
    config.html_static_path.append(str(PICTURE))
    config.html_additional_pages[NOT_FOUND] = f"{NOT_FOUND}.html"


def lead_back(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Let the page for addresses that are none work at whichever address it is shown, however deep."""
    if page == NOT_FOUND:
        context["metatags"] = f'<base href="{html.escape(app.config.html_baseurl)}" />\n'
        context["pageurl"] = None  # it has no address of its own


def write_index(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Write the page that leads on to the front page, with that one's preview; else Jupyter Book does."""
    if page == app.config.root_doc:
        file = app.builder.get_target_uri(page)
        title, address = html.escape(app.config.html_title), urljoin(app.config.html_baseurl, file)
        text = INDEX.format(title=title, page=file, address=address, tags=context["metatags"].strip())
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    """List the address of every page."""
    if exception is not None:
        return
    pages = ElementTree.Element("urlset", xmlns=SITEMAP)
    for page in sorted(app.env.found_docs):
        place = ElementTree.SubElement(ElementTree.SubElement(pages, "url"), "loc")
        place.text = urljoin(app.config.html_baseurl, app.builder.get_target_uri(page))
    ElementTree.indent(pages)
    tree = ElementTree.ElementTree(pages)
    tree.write(Path(app.outdir) / "sitemap.xml", encoding="utf-8", xml_declaration=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx; the index is written after the others have said their part."""
    app.connect("config-inited", know_the_address)
    app.connect("html-page-context", lead_back)
    app.connect("html-page-context", write_index, priority=900)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
