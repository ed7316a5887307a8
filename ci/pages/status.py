"""Two pages: what was executed, when, where and from what; and every claim of the book with its value."""

from __future__ import annotations

from typing import Any

from ci.chapters import Chapter, Notebook, course_metadata

CLAIM = "application/vnd.kdlib.claim+json"

WHAT_RAN = """\
# What ran

This page is written by the build. It says how each chapter on these pages was executed. What its sentences
rest on is on the page [Claims](claims.md); runs that were recorded before are on the page
[Records](records.md).

## Chapters
"""

CLAIMS = """\
# Claims

This page is written by the build. It lists every quantitative sentence of the book that a cell checks, with
the value that the last execution found, and what the value has to be. A claim that does not hold stops the
build.
"""


def status_page(executed: list[tuple[Chapter, Notebook | None]]) -> str:
    """The Markdown of the status page, from each chapter's last execution (None where there is none)."""
    run = [(chapter, notebook) for chapter, notebook in executed if notebook is not None]
    sections = [WHAT_RAN, chapter_table(executed), "", "## Data", ""]
    sections += [f"- {link(chapter)}: {data_sets(notebook)}" for chapter, notebook in run]
    sections += ["", "## Versions", ""]
    sections += [f"- {link(chapter)}: {versions(notebook)}" for chapter, notebook in run]
    return "\n".join(sections) + "\n"


def claims_page(executed: list[tuple[Chapter, Notebook | None]]) -> str:
    """The Markdown of the page of claims."""
    sections = [CLAIMS]
    for chapter, notebook in executed:
        if notebook is not None and (claims := claims_of(notebook)):
            sections += [f"## {link(chapter)}", "", last_run(notebook), "", claim_table(claims), ""]
    return "\n".join(sections) + "\n"


def last_run(notebook: Notebook) -> str:
    """When and how a chapter was executed, in a sentence."""
    noted = course_metadata(notebook)
    profile = ", ".join([noted["profile"], *changed_parameters(noted)])
    return (
        f"Last run: {moment(noted)} UTC, profile {profile}, on {noted['device']}, commit {noted['commit']}."
    )


def moment(noted: dict[str, Any]) -> str:
    """When an execution began, to the minute."""
    return str(noted["started"][:16]).replace("T", " ")


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
        over = " (over)" if noted["seconds"] > noted["budget"] else ""
        time = f"{noted['seconds']:.0f} s{over}"
        cells = [profile, moment(noted), time, f"{noted['budget']:.0f} s", noted["device"], noted["commit"]]
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
        rows.append(
            f"| {sentence} | {number(claim['value'])}{unit}{interval(claim)} | {bounds(claim)}{unit} |"
        )
    return "\n".join(rows)


def interval(claim: dict[str, Any]) -> str:
    """The 95 % interval of a claim on a difference, in brackets; nothing where there is none."""
    if "low" not in claim:
        return ""
    low, high = (number(round(claim[end], 1)) for end in ("low", "high"))
    return f" (95 % interval {low} to {high}, {claim['seeds']} seeds)"


def bounds(claim: dict[str, Any]) -> str:
    """The claim's bounds in words."""
    low, high = claim.get("at_least"), claim.get("at_most")
    if low is not None and high is not None:
        return f"{number(low)} to {number(high)}"
    return f"at least {number(low)}" if low is not None else f"at most {number(claim['at_most'])}"


def number(value: float) -> str:
    """Four digits, with a minus sign and not a hyphen."""
    return f"{'−' if value < 0 else ''}{abs(value):.4g}"


def versions(notebook: Notebook) -> str:
    """The versions that the chapter ran with."""
    return ", ".join(f"{name} {version}" for name, version in course_metadata(notebook)["versions"].items())


def data_sets(notebook: Notebook) -> str:
    """The data sets that the chapter loaded, each with the fingerprint of its training images."""
    noted = course_metadata(notebook).get("data")
    if noted is None:
        return "not noted"
    told = [
        f"{each['data']}: {each['images']['train']} images to train on, fingerprint `{each['fingerprint']}`"
        for each in noted
    ]
    return "; ".join(told) or "none"


def link(chapter: Chapter) -> str:
    """A link to the chapter's page."""
    return f"[{chapter.title}]({chapter.slug}.ipynb)"
