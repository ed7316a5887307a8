"""The method cards: complete, alike, their code runs, and their numbers are those of the records."""

from __future__ import annotations

import copy
import dataclasses
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_up_course import ROOT, keep_record

import kdlib
from ci.chapters import CourseError
from ci.pages import cards, methods
from ci.pages.methods import Comparison, Costs, Method
from ci.pages.records import load_groups
from kdlib import experiments, losses
from kdlib.terms import LayerTerm, Term

CARDS = ROOT / "book" / "methods"
PARTS = ["Formula", "Code", "Cost", "When it helps", "Our number", "Published", "Paper"]
PLACES = {"Code": ["names"], "Cost": ["cost"], "Our number": ["ours"], "Published": ["published"]}
SLUGS = sorted(path.stem for path in CARDS.glob("*.md") if path.stem != "index")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def every() -> dict[str, Method]:
    """All methods, with the records of this repository."""
    found = methods.load_methods(CARDS, load_groups(ROOT / "data" / "results"))
    return {method.slug: method for method in found}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cards as Sphinx gets them."""
    stage = tmp_path_factory.mktemp("stage")
    shutil.copytree(CARDS, stage / "methods")
    cards.stage_cards(stage, ROOT, load_groups(ROOT / "data" / "results"))
    return stage / "methods"


def card(slug: str) -> str:
    return (CARDS / f"{slug}.md").read_text(encoding="utf-8")


def test_every_term_and_every_loss_has_a_card_and_the_other_way_round() -> None:
    terms = {
        name
        for name in kdlib.__all__
        if isinstance(kind := getattr(kdlib, name), type) and issubclass(kind, Term)
    } - {LayerTerm.__name__}
    public = terms | {f"losses.{name}" for name in losses.__all__}
    told = [name for method in every().values() for name in method.names]
    schemes = {"schemes.chain", "schemes.Mutual"}
    assert set(told) == public | schemes
    assert sorted(set(told)) == sorted(dict.fromkeys(told))
    once = [name for name in told if name != "schemes.chain"]
    assert len(once) == len(set(once)), "a name stands on one card; two schemes are one function"


def test_cards_facts_and_contents_list_the_same() -> None:
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    part = next(part for part in contents["parts"] if part["caption"] == "Methods")
    (overview,) = part["chapters"]
    assert overview["file"] == "methods/index"
    listed = [each["file"].removeprefix("methods/") for each in overview["sections"]]
    assert listed == list(every())
    assert sorted(listed) == SLUGS


@pytest.mark.parametrize("slug", SLUGS)
def test_a_card_has_its_parts_in_order(slug: str) -> None:
    text = card(slug)
    assert text.startswith(f"# {every()[slug].title}\n\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    idea, *sections = re.split(r"^## .*$", text, flags=re.MULTILINE)
    assert 2 <= len(re.findall(r"[.:?](?:\s|$)", idea.partition("\n\n")[2])) <= 5, (
        "an idea is a few sentences"
    )
    for name, section in zip(PARTS, sections, strict=True):
        assert re.findall(r"^% generated: (\w+)$", section, re.MULTILINE) == PLACES.get(name, [])
    by_name = dict(zip(PARTS, sections, strict=True))
    assert by_name["Formula"].count("$$") >= 2
    assert "{cite:t}`" in by_name["Paper"]
    assert by_name["When it helps"].count("\n- ") >= 2


@pytest.mark.parametrize("slug", SLUGS)
def test_a_card_links_to_its_chapter_and_types_no_number_of_ours(slug: str) -> None:
    text, chapter = card(slug), every()[slug].chapter
    if chapter:
        assert f"](../{chapter}.ipynb)" in text
    assert not re.findall(r"\d+(?:\.\d+)? points|±", text), "write {gain}`key`: the build knows the number"
    keys = set(re.findall(r"\{gain\}`([\w-]+)`", text))
    assert keys <= {comparison.key for comparison in every()[slug].ours}


@cache
def frame() -> dict[str, Any]:
    """What the overview's code leaves behind."""
    names: dict[str, Any] = {}
    exec("\n".join(BLOCK.findall(card("index"))), names)
    return names


def run(code: str) -> dict[str, Any]:
    """A card's code, after the overview's, in names of its own."""
    names = frame() | {name: copy.deepcopy(frame()[name]) for name in ("student", "teacher")}
    exec(code, names)
    return names


@pytest.mark.parametrize("slug", SLUGS)
def test_the_code_of_a_card_trains_the_student_one_step(slug: str) -> None:
    (code,) = BLOCK.findall(card(slug))
    assert len(code.splitlines()) <= 8
    assert max(map(len, code.splitlines())) <= 86, "wider than the column"
    names = run(code)
    born_again = "second" in names
    learner = names["second"] if born_again else names["student"]
    new = (
        kdlib.create_model("convnet", 10, in_channels=1, width=32, seed=3)
        if born_again
        else frame()["student"]
    )
    trained, before = (torch.cat([w.detach().flatten() for w in net.parameters()]) for net in (learner, new))
    assert trained.isfinite().all()
    assert not torch.equal(trained, before)
    teacher, untouched = names["teacher"].state_dict(), frame()["teacher"].state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in teacher.items())
    mentioned = {name.rpartition(".")[2] for name in every()[slug].names}
    assert mentioned & set(re.findall(r"\w+", code)) or "standardize=True" in code


@pytest.mark.parametrize("slug", SLUGS)
def test_what_a_card_says_of_widths_and_extras_is_so(slug: str) -> None:
    method = every()[slug]
    (code,) = BLOCK.findall(card(slug))
    if method.widths == "yes":
        with pytest.raises(ValueError, match="equal channels"):
            run(code.replace("Distiller(student, twin,", "Distiller(student, teacher,"))
    elif "Distiller(student, None" not in code:
        assert "twin" not in code, "the code compares width 8 with width 32"
    kind = getattr(kdlib, method.names[0], None)
    if isinstance(kind, type) and issubclass(kind, Term):
        assert kind.has_connectors == (method.extra != "none")


@pytest.mark.parametrize("slug", SLUGS)
def test_our_numbers_are_those_of_the_records(slug: str, staged: Path) -> None:
    text = (staged / f"{slug}.md").read_text(encoding="utf-8")
    section = text.partition("## Our number")[2].partition("## Published")[0]
    for section_of_facts in facts()[slug].get("ours", ()):
        found = [accuracies(section_of_facts[side]) for side in ("with", "without")]
        seeds = sorted(set(found[0]) & set(found[1]))
        says = re.sub(r"`(.*?)`", r"<code>\1</code>", section_of_facts["says"])
        row = next(
            (line for line in section.splitlines() if line.startswith(f'<tr><th scope="row">{says}</th>')), ""
        )
        if not seeds:
            assert row == ""
            assert "ot run yet" in section
            continue
        ours, theirs = ([side[seed] for seed in seeds] for side in found)
        for values in (ours, theirs):
            summary = experiments.Summary.of(values)
            spread = f" ± {100 * summary.sd:.1f}" if summary.n > 1 else ""
            assert f">{100 * summary.mean:.1f}{spread} ({summary.n})</a>" in row
        if len(seeds) > 1:
            paired = experiments.paired_difference(ours, theirs)
            told = [f"{100 * value:+.1f}" for value in (paired.mean, paired.low, paired.high)]
            assert f"<td>{told[0]} ({told[1]} to {told[2]})</td>".replace("-", "−") in row
        else:
            assert row.endswith("(one seed)</td></tr>")
    if not facts()[slug].get("ours"):
        assert section.strip() == "Not run yet."


@cache
def facts() -> dict[str, Any]:
    import tomllib

    return tomllib.loads((CARDS / methods.FACTS).read_text(encoding="utf-8"))


recorded = cache(experiments.recorded)


def accuracies(place: str) -> dict[int, float]:
    """By seed, as kdlib reads the records: those of `full` where there are any."""
    experiment, _, label = place.partition("/")
    for profile in ("full", "short"):
        runs = recorded(experiment, profile).get(label)
        if runs:
            return {run.seed: run.final["accuracy"] for run in runs}
    return {}


@pytest.mark.parametrize("slug", SLUGS)
def test_runs_that_are_not_recorded_are_runs_of_the_chapter(slug: str) -> None:
    """A label with a slip of the pen would be "not run yet" for ever."""
    for each in facts()[slug].get("ours", ()):
        for place in (each["with"], each["without"]):
            if not accuracies(place):
                experiment, _, label = place.partition("/")
                source = (ROOT / "book" / f"{experiment}.ipynb").read_text(encoding="utf-8")
                assert f'\\"{label}\\"' in source, place


def test_sentences_have_the_difference_of_the_table(staged: Path) -> None:
    text = (staged / "soft-targets.md").read_text(encoding="utf-8")
    ours, theirs = accuracies("01-why-distil/taught"), accuracies("01-why-distil/alone")
    mean = 100 * experiments.paired_difference([ours[s] for s in ours], [theirs[s] for s in ours]).mean
    assert f"the teacher has seen more: {mean:+.1f}\N{NO-BREAK SPACE}points (" in text
    assert "{gain}" not in "".join(path.read_text(encoding="utf-8") for path in staged.glob("*.md"))
    assert "% generated" not in "".join(path.read_text(encoding="utf-8") for path in staged.glob("*.md"))


def test_published_numbers_are_those_of_the_tables(staged: Path) -> None:
    text = (staged / "crd.md").read_text(encoding="utf-8")
    row = '<th scope="row">ResNet-32x4→8x4</th><td>72.50</td><td>75.51</td><td>+3.01</td>'
    assert row in text
    assert "</a>; the last epoch</th>" in text
    assert "</a>; the best epoch on the test images</th>" in (staged / "dkd.md").read_text(encoding="utf-8")
    assert "do not have it" in (staged / "vid.md").read_text(encoding="utf-8")


def test_the_glossary_leads_to_every_card() -> None:
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(methods/([\w-]+)\.md\)", glossary)) == set(SLUGS)


def test_costs_are_those_of_the_measurement_that_is_kept(staged: Path) -> None:
    costs = Costs.load(ROOT / "data" / "measured" / "losses.json")
    assert costs is not None
    measured = [method for method in every().values() if method.measured]
    assert {method.measured for method in measured} == set(costs.rows) - {"step", "hard labels"}
    assert {method.kind for method in every().values() if not method.measured} == {"schemes"}
    assert "no loss of its own" in (staged / "mutual-learning.md").read_text(encoding="utf-8")
    row, text = costs.rows["crd"], (staged / "crd.md").read_text(encoding="utf-8")
    told = re.search(rf"</strong> {row['weights']:,}; <strong>memory</strong> (\d+) MB throughout and ", text)
    assert told is not None
    assert int(told[1]) == pytest.approx(row["kept"] / 1e6, abs=0.5)
    short, long = (f"{100 * row[name]:.0f} %" for name in ("share", "share of a long run"))
    assert f"</strong> {short} of a step, {long} in a compiled run." in text
    assert f"PyTorch {costs.machine['torch']}, on {costs.measured}." in text
    overview = (staged / "index.md").read_text(encoding="utf-8")
    assert overview.count('<th scope="row">') == len(SLUGS)
    assert "not measured yet" not in overview
    assert f"<td>{100 * row['share']:.0f} %</td>" in overview


def test_the_overview_tells_each_method_over_labels_and_in_which_chapter(staged: Path) -> None:
    overview = (staged / "index.md").read_text(encoding="utf-8")
    assert "not run yet" not in overview
    record = experiments.recorded("08-logits-again", "short")
    taught, alone = (
        [run.final["accuracy"] for run in record[label]] for label in ("DKD, weight 3", "labels, weight 1")
    )
    mean, low, high = experiments.paired_difference(taught, alone).signed(100, 1)
    (row,) = re.findall(r'<a href="dkd.html">.*', overview)
    assert f"<td>{mean} ({low} to {high}), ch.\N{NO-BREAK SPACE}8</td>" in row
    without = dataclasses.replace(every()["dkd"], ours=())
    assert cards.over_labels(without) == "not run yet"


def test_without_a_measurement_nothing_is_said_to_be_measured() -> None:
    assert Costs.load(ROOT / "no such file") is None
    method = every()["crd"]
    assert cards.cost_text(method, None) == "Not measured yet."
    assert "not measured yet" in cards.overview([method], None)
    assert "Measured" not in cards.overview([method], None)


@pytest.mark.parametrize(
    ("size", "told"), [(0, "under 0.1 MB"), (2.2e5, "0.2 MB"), (4.2e6, "4.2 MB"), (52.4e6, "52 MB")]
)
def test_memory_is_told_to_two_digits(size: float, told: str) -> None:
    assert cards.megabytes(size) == told


def test_runs_are_compared_over_the_seeds_that_both_have_and_full_ones_first(tmp_path: Path) -> None:
    data = tmp_path / "results"
    for seed in (0, 1):
        keep_record(data, "lab/short/taught", seed)
    for seed in (1, 2, 3):
        keep_record(data, "lab/short/alone", seed)
    keep_record(data, "lab/full/alone", 1)
    (tmp_path / methods.FACTS).write_text(
        """[one]
title = "One"
kind = "answers"
compares = "logits"
widths = "no"
extra = "none"
names = ["DKD"]
chapter = ""
ours = [{key = "it", says = "so", with = "lab/taught", without = "lab/alone"}]
"""
    )
    (method,) = methods.load_methods(tmp_path, load_groups(data))
    (comparison,) = method.ours
    assert comparison.alone is not None
    assert comparison.alone.profile == "full"
    assert cards.gain_of(comparison, " points") == "+0.0 points (one seed)"
    assert cards.gain_of(Comparison("it", "so", comparison.taught, None)) == "not run yet"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("% generated: costs\n", "one.md asks for 'costs', which is none of cost"),
        (
            "It gains {gain}`much`.\n",
            "one.md speaks of the comparison 'much', which methods.toml does not have",
        ),
    ],
)
def test_a_slip_in_a_card_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text(text)
    with pytest.raises(CourseError, match=re.escape(message)):
        cards.fill(tmp_path / "one.md", {"cost": lambda: ""}, {})


def test_missing_cards_rows_and_facts_are_named(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"has a method 'two' and .* is not there: write the card"):
        cards.fill(tmp_path / "two.md", {}, {})
    with pytest.raises(CourseError, match=r"crd-cifar100.csv has no accuracies in a row 'CRDD'"):
        methods.published_rows(ROOT / "data" / "published" / "crd-cifar100.csv", "CRDD")
    (tmp_path / methods.FACTS).write_text('[one]\ntitel = "One"\nnames = []\n')
    with pytest.raises(CourseError, match=r"methods.toml, \[one\]: .*titel"):
        methods.load_methods(tmp_path, [])
