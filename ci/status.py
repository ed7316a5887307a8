"""The status page: what was executed, when and with what, and every claim of the book with its value."""

from __future__ import annotations

from typing import Any

from ci.chapters import Chapter, Notebook, course_metadata

CLAIM = "application/vnd.kdlib.claim+json"

INTRODUCTION = """\
# What ran

This page is written by the build. It says how each chapter on these pages was executed, and lists every claim
of the book with the value that the last execution found. A claim that does not hold stops the build.

## Chapters
"""


def status_page(executed: list[tuple[Chapter, Notebook | None]]) -> str:
    """The Markdown of the status page, from each chapter's last execution (None where there is none)."""
    run = [(chapter, notebook) for chapter, notebook in executed if notebook is not None]
    sections = [INTRODUCTION, chapter_table(executed), "", "## Claims", ""]
    for chapter, notebook in run:
        claims = claims_of(notebook)
        if claims:
            sections += [f"### {link(chapter)}", "", claim_table(claims), ""]
    sections += ["## Versions", ""]
    sections += [f"- {link(chapter)}: {versions(notebook)}" for chapter, notebook in run]
    return "\n".join(sections) + "\n"


def chapter_table(executed: list[tuple[Chapter, Notebook | None]]) -> str:
    """One row per chapter: profile, parameters changed, start, time against budget, device, commit."""
    rows = [
        "| Chapter | Profile | Started (UTC) | Time | Budget | Device | Commit |",
        "| --- | --- | --- | ---: | ---: | --- | --- |",
    ]
    for chapter, notebook in executed:
        if notebook is None:
            rows.append(f"| {link(chapter)} | not run yet | | | | | |")
            continue
        noted = course_metadata(notebook)
        profile = ", ".join([noted["profile"], *changed_parameters(noted)])
        started = noted["started"][:16].replace("T", " ")
        over = " (over)" if noted["seconds"] > noted["budget"] else ""
        time = f"{noted['seconds']:.0f} s{over}"
        cells = [profile, started, time, f"{noted['budget']:.0f} s", noted["device"], noted["commit"]]
        rows.append(f"| {link(chapter)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def changed_parameters(noted: dict[str, Any]) -> list[str]:
    """The parameters, other than the profile, that the execution changed."""
    return [f"`{name} = {value!r}`" for name, value in noted["parameters"].items() if name != "profile"]


def claims_of(notebook: Notebook) -> list[dict[str, Any]]:
    """The claims that the chapter's cells asserted, in order."""
    return [
        output["data"][CLAIM]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        if CLAIM in output.get("data", {})
    ]


def claim_table(claims: list[dict[str, Any]]) -> str:
    """One row per claim: its sentence, the value found and the bounds that it must keep."""
    rows = ["| Claim | Value | Required |", "| --- | ---: | --- |"]
    for claim in claims:
        sentence = claim["sentence"].replace("|", "\\|")
        unit = f" {claim['unit']}" if claim.get("unit") else ""
        rows.append(f"| {sentence} | {claim['value']:.4g}{unit} | {bounds(claim)}{unit} |")
    return "\n".join(rows)


def bounds(claim: dict[str, Any]) -> str:
    """The claim's bounds in words."""
    low, high = claim.get("at_least"), claim.get("at_most")
    if low is not None and high is not None:
        return f"{low:.4g} to {high:.4g}"
    return f"at least {low:.4g}" if low is not None else f"at most {high:.4g}"


def versions(notebook: Notebook) -> str:
    """The versions that the chapter ran with."""
    return ", ".join(f"{name} {version}" for name, version in course_metadata(notebook)["versions"].items())


def link(chapter: Chapter) -> str:
    """A link to the chapter's page."""
    return f"[{chapter.title}]({chapter.slug}.ipynb)"
