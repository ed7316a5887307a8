"""What can be wrong with an open page, each fault in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .conftest import PHONE, Theme, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

HEAVIEST = 2_000_000  # bytes, with everything that the page loads from top to bottom
MOST_REQUESTS = 60

# An image far below may be loaded late; here all are wanted.
LOAD_ALL_IMAGES = """() => {
    scrollTo(0, document.body.scrollHeight);
    return Promise.allSettled([...document.images].map((image) => {
        image.loading = "eager";
        return image.decode();
    }));
}"""

IMAGES = """() => [...document.images]
    .filter((image) => !image.alt.trim() || !image.naturalWidth)
    .map((image) => `${image.naturalWidth ? "no alt" : "not loaded"}: `
        + (image.getAttribute("src") ?? "").slice(0, 80))"""

MATHEMATICS = r"""() => {
    const waiting = [...document.querySelectorAll(".math")].filter((math) => !math.querySelector(".katex"));
    const refused = [...document.querySelectorAll(".katex-error")];
    const text = document.querySelector("main").cloneNode(true);
    text.querySelectorAll("pre, code, script, style, svg, .katex").forEach((node) => node.remove());
    const raw = text.textContent.match(/.{0,30}(\$\$|\\\(|\\\[|\\begin\{|\\frac|\\mathrm).{0,30}/g) ?? [];
    return [...waiting, ...refused].map((node) => node.textContent.slice(0, 80)).concat(raw);
}"""

# A name that is written as <class> without being escaped becomes an element that HTML does not know.
UNKNOWN_ELEMENTS = """() => [...document.querySelectorAll("body *")]
    .filter((node) => node instanceof HTMLUnknownElement || node.matches(":not(:defined)"))
    .map((node) => `<${node.localName}> in ${node.parentElement.textContent.trim().slice(0, 80)}`)"""

FAILED_FIGURES = """() => [...document.querySelectorAll(".kdlib-live:not([data-live=ready])")]
    .map((figure) => figure.querySelector("img")?.alt.slice(0, 80) ?? "")"""

OPEN_FOLDS = "document.querySelectorAll('article details').forEach((fold) => (fold.open = true))"

WIDER_THAN_THE_SCREEN = """() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    return [`${root.scrollWidth} pixels`, ...[...document.querySelectorAll("body *")]
        .filter((node) => node.getBoundingClientRect().right > root.clientWidth + 1)
        .map((node) => `${node.tagName} ${node.className}`.slice(0, 80))].slice(0, 9);
}"""

# axe walks through every element, of what it is not asked about too. Code and drawn formulas have thousands.
# Of a table's rows that differ in their words alone two are enough, an odd and an even one.
THIN_OUT = """() => {
    document.querySelectorAll("article pre:not(.kdlib-live *)")
        .forEach((code) => code.replaceChildren(code.textContent));
    document.querySelectorAll(".katex-html").forEach((drawing) => drawing.replaceChildren());
    for (const body of document.querySelectorAll("article tbody:not(.kdlib-live *)")) {
        const seen = {};
        for (const row of [...body.rows]) {
            const kind = [row, ...row.querySelectorAll("*")]
                .map((node) => `${node.localName} ${node.className} ${node.getAttribute("style")}`).join();
            seen[kind] = (seen[kind] ?? 0) + 1;
            if (seen[kind] > 2) row.remove();
        }
    }
}"""

# Contrast takes axe a millisecond a text. Of those with the same look on the same backgrounds it sees two.
MARK_EACH_LOOK = """({include = [["body"]], exclude = []}) => {
    const within = (node, parts) => parts.some(([part]) => node.closest(part));
    const looks = new Map();
    const look = (node) => {
        if (!node) return "";
        if (!looks.has(node)) {
            const {backgroundColor, backgroundImage, opacity, filter} = getComputedStyle(node);
            const own = `${backgroundColor} ${backgroundImage} ${opacity} ${filter}`;
            looks.set(node, `${look(node.parentElement)}/${own}`);
        }
        return looks.get(node);
    };
    const seen = {};
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    document.querySelectorAll("[data-look]").forEach((node) => node.removeAttribute("data-look"));
    while (words.nextNode()) {
        const node = words.currentNode.parentElement;
        if (!words.currentNode.data.trim() || !node.checkVisibility({visibilityProperty: true})) continue;
        if (!within(node, include) || within(node, exclude)) continue;
        const {color, fontSize, fontWeight} = getComputedStyle(node);
        const kind = `${node.localName} ${node.className} ${color} ${fontSize} ${fontWeight} ${look(node)}`;
        seen[kind] = (seen[kind] ?? 0) + 1;
        if (seen[kind] <= 2) node.setAttribute("data-look", "");
    }
}"""

# preload would fetch the stylesheets once more, which a page opened from disk may not.
AXE = """(part) => {
    axe.configure({rules: [{id: "color-contrast", selector: "[data-look]"}]});
    return axe.run(part, {preload: false, resultTypes: ["violations"]})
        .then(({violations}) => violations.flatMap(({id, nodes}) => nodes.map((node) =>
            `${id}: ${node.html.slice(0, 120)} ${node.failureSummary.slice(0, 300)}`)));
}"""

# Code has a test of its own, test_code_is_accessible. Screen readers get the MathML beside KaTeX's drawing of
# a formula, which has the colour of the text.
ELSEWHERE = [["pre"], [".katex-html"]]
# What is alike on all pages is looked at on one page of each kind.
AROUND = [[".bd-header"], [".bd-sidebar-primary"], [".bd-footer"]]


def accessibility(page: Page, part: dict[str, list[list[str]]]) -> list[str]:
    """What axe-core finds in a part of a page."""
    from axe_playwright_python.sync_playwright import Axe

    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    page.evaluate(MARK_EACH_LOOK, part)
    found: list[str] = page.evaluate(AXE, part)
    return found


def of_first_sight(visited: Visit, chapter: bool) -> dict[str, Any]:
    """Images, mathematics, markup, figures and folds, as the page was loaded."""
    page = visited.page
    page.evaluate(LOAD_ALL_IMAGES)
    return {
        "images": page.evaluate(IMAGES),
        "mathematics": page.evaluate(MATHEMATICS),
        "unescaped text": page.evaluate(UNKNOWN_ELEMENTS),
        "live figures that stay pictures": page.evaluate(FAILED_FIGURES),
        "solutions": of_solutions(page, chapter),
    }


def of_solutions(page: Page, chapter: bool) -> list[str]:
    """A chapter hides its solutions until a reader asks for them, with keys too."""
    solutions, opened = page.locator("details.solution"), page.locator("details.solution[open]")
    if opened.count():
        return [f"{opened.count()} are open"]
    if chapter and solutions.count() < 4:
        return [f"there are {solutions.count()}"]
    if solutions.count():
        solutions.first.locator("summary").press("Enter")
        if opened.count() != 1:
            return ["the first does not open by the Enter key"]
    return []


def of_turned_page(visited: Visit, theme: Theme, width: int, around: bool) -> dict[str, list[str]]:
    """What is wrong with a page in a theme at a width: too wide for a phone, or hard to perceive."""
    page, where = visited.page, f"{theme}, {width} pixels"
    wrong_theme = [] if page.get_attribute("html", "data-theme") == theme else ["not in it"]
    too_wide = page.evaluate(WIDER_THAN_THE_SCREEN) if width == PHONE else []
    parts = {"exclude": ELSEWHERE if around else ELSEWHERE + AROUND}
    return {
        f"theme {theme}": wrong_theme,
        f"wider than the screen ({where})": too_wide,
        f"accessibility ({where})": accessibility(page, parts),
    }


def of_loading(visited: Visit) -> dict[str, list[str]]:
    """What a page asked for and complained of: nothing from another host, no error, little to load."""
    weight = sum(path.stat().st_size for path in visited.loaded if path.is_file())
    count = len(visited.loaded)
    return {
        "requests that leave the folder": list(visited.outside),
        "console": list(visited.complaints),
        "weight": [] if 0 < weight < HEAVIEST else [f"loads {weight / 1e6:.2f} MB"],
        "number of requests": [] if count < MOST_REQUESTS else [f"asks for {count} files"],
    }


def in_words(faults: dict[str, list[str]]) -> str:
    """All of them, a line each."""
    return "\n".join(f"{what}: {' '.join(each.split())}" for what, found in faults.items() for each in found)
