"""Published numbers beside records that are made by hand, against numbers computed with scipy and numpy."""

import csv
import dataclasses
import html.parser
import io
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from kdlib.experiments import RunRecord, comparison, find_recipes, frame
from kdlib.experiments.report import comparison as tables
from kdlib.experiments.report import published as published_module
from kdlib.experiments.report.recipe_table import recipe_table
from kdlib.experiments.report.table import table

CURVES = {  # accuracies on the test images of three epochs, by recipe and seed
    "lab/base": {0: [0.70, 0.80, 0.78], 1: [0.72, 0.79, 0.79], 2: [0.71, 0.83, 0.80]},
    "lab/taught": {0: [0.75, 0.84, 0.83], 1: [0.74, 0.81, 0.82], 2: [0.71, 0.86, 0.85], 3: [0.7, 0.9, 0.9]},
}
FIRST = "row,column,printed,value,sd,n,metric,selection,recipe,against,note\n"


def today(name, profile, seeds):
    """What counts of a recipe as it is now."""
    family = name.partition("/")[0]
    return SimpleNamespace(family=family, profile=profile, digest=f"{name} today", seeds=seeds)


@pytest.fixture
def course(monkeypatch, tmp_path):
    """A course with one published table, whose recipes have the digest "today"."""
    shelf = tmp_path / "published"
    shelf.mkdir()
    (shelf / "sources.toml").write_text(
        "".join(
            f'[{name}]\ntitle = "T & t"\nsource = "S"\nurl = ""\nselection = "Chosen."\n' for name in "ab"
        )
    )
    (shelf / "a.csv").write_text(
        FIRST + "alone,C 10,82.0,0.820,,3,accuracy,best,lab/base,,\n"
        "taught,C 10,**84.55%**,0.8455,,1,accuracy,best,lab/taught,alone,a note\n"
        "taught,C 100,50.5,0.505,,1,accuracy,last,lab/other,,\n"
        "given,C 10,90,0.9,,1,accuracy,last,,,\n"
        "taught,epochs,200,200,,,setting,,,,\n"
    )
    (shelf / "b.csv").write_text(
        FIRST + "r,acc,0.81 +/- 0.02,0.81,0.02,4,accuracy,mean,lab/base,,\n"
        "r,diff,1.25 +/- 0.5,1.25,0.5,4,logit difference,mean,lab/base,,\n"
    )
    monkeypatch.setenv("KDLIB_PUBLISHED", str(shelf))
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(tables, "_today", partial(today, seeds=(0, 1, 2)))
    published_module._read.cache_clear()
    return tmp_path / "results"


def record(recipe, seed, curve, profile="full", digest=None, **epochs):
    return RunRecord(
        seed=seed,
        settings={},
        data={},
        epochs={"test_accuracy": curve} | epochs,
        final={"accuracy": curve[-1]},
        environment={},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        profile=profile,
        recipe={"name": recipe, "digest": digest or f"{recipe} today", "data": {"name": "cifar10"}},
    )


def keep(folder, run):
    name = run.recipe["name"].split("/", 1)[1].replace("/", "-")
    return run.save(folder / "lab" / run.profile / f"{name}-seed{run.seed}.json")


@pytest.fixture
def ran(course):
    for recipe, seeds in CURVES.items():
        for seed, curve in seeds.items():
            keep(course, record(recipe, seed, curve))
    return course


def last(recipe):
    return [curve[-1] for curve in CURVES[recipe].values()]


def test_nothing_has_run(course):
    found = comparison("a", columns="C 10")
    assert found.profiles == ("full",)
    assert [row[2] for row in found.table().rows] == ["not run yet", "not run yet", "no recipe"]
    assert found.table().to_markdown().count("not run yet") == 2
    assert found.table().to_latex().count("not run yet") == 2
    assert found.frame()["mean"].isna().all()
    assert found._repr_html_().count(">not run yet</span></td>") == 2


def test_figures_are_those_of_scipy(ran):
    alone, taught, given = comparison("a", columns="C 10").lines
    ours = taught.ours["full"]
    assert (ours.last.mean, ours.last.sd, ours.last.n) == (
        pytest.approx(np.mean(last("lab/taught"))),
        pytest.approx(np.std(last("lab/taught"), ddof=1)),
        4,
    )
    best = [max(curve) for curve in CURVES["lab/taught"].values()]
    assert (ours.selected.mean, ours.selected.sd) == (
        pytest.approx(np.mean(best)),
        pytest.approx(np.std(best, ddof=1)),
    )
    # Three seeds are in both: the fourth tells nothing about the difference.
    test = stats.ttest_rel(last("lab/taught")[:3], last("lab/base"))
    interval = test.confidence_interval(0.95)
    assert (ours.difference.low, ours.difference.high) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )
    assert ours.difference.n == 3
    assert alone.ours["full"].difference is None
    assert given.ours == {}


def test_cells_say_what_they_are(ran):
    alone, taught, other, given = comparison("a").table().rows
    assert alone == ("alone; C 10", "82.0 (3); best on test", "79.0 ± 1.0 (3); best on test 80.7 ± 2.1")
    assert taught[:2] == ("taught; C 10", "84.55; best on test")
    assert taught[2].split("; ")[:2] == ["85.0 ± 3.6 (4)", "best on test 85.5 ± 3.4"]
    assert re.fullmatch(r"Δ \+4\.3 \(\+\d\.\d to \+\d\.\d\)", taught[2].split("; ")[2])
    assert other == ("taught; C 100", "50.5", "not run yet")
    assert given[2] == "no recipe"


def test_mean_over_all_epochs(course):
    curves = [[0.5, 0.75, 1.0], [0.25, 0.5, 0.75]]
    for seed, curve in enumerate(curves):
        keep(course, record("lab/base", seed, curve))
    accuracy, difference = comparison("b").lines
    ours = accuracy.ours["full"]
    assert (ours.selected.mean, ours.selected.sd) == (
        pytest.approx(np.mean(curves)),
        pytest.approx(np.std(curves, ddof=1)),
    )
    assert accuracy.entry("full").figures == ("87.5 ± 17.7 (2)", "over all epochs 62.5 ± 26.2")
    assert difference.entry("full") == "not measured"


def test_other_metrics_are_of_the_last_epoch(course):
    for seed in (0, 1):
        keep(course, record("lab/base", seed, [0.5, 0.5], test_logit_difference=[3.0, 1.0 + seed]))
    line = comparison("b", columns="diff").lines[0]
    assert line.entry("full").figures == ("1.500 ± 0.707 (2)", "over all epochs 2.250 ± 0.957")
    assert comparison("b", columns="diff").table().rows[0][1] == "1.250 ± 0.500 (4); over all epochs"


def test_one_seed_has_no_spread_and_no_interval(course):
    keep(course, record("lab/base", 0, [0.5]))
    keep(course, record("lab/taught", 0, [0.75]))
    rows = comparison("a", columns="C 10").table().rows
    assert rows[1][2] == "75.0 (1); best on test 75.0"


def test_profiles_have_columns_of_their_own(ran):
    keep(ran, record("lab/base", 0, [0.25], profile="short"))
    live = [record("lab/base", 0, [0.125], profile="quick")]
    found = comparison("a", columns="C 10", live=live)
    assert found.table().header == ("run", "published", "ours", "ours, short", "digits, quick")
    assert found.table().rows[0][3:] == ("25.0 (1); best on test 25.0", "12.5 (1); best on test 12.5")
    assert "Short, on cifar10: fewer epochs" in found.caption
    assert "Quick, on cifar10: seconds on handwritten digits" in found.caption


def test_a_run_under_another_name_is_the_same_run(course):
    """Two names of one content have one digest."""
    keep(course, record("lab/alias", 0, [0.5], digest="lab/base today"))
    assert comparison("a", columns="C 10").lines[0].ours["full"].last.mean == 0.5


def test_teachers_are_not_among_the_students(ran, monkeypatch):
    """A teacher is a run of the same recipe, with a seed of its own from 100 on."""
    keep(ran, record("lab/base", 100, [0.1]))
    assert comparison("a", columns="C 10").lines[0].ours["full"].last.n == 3
    monkeypatch.setattr(tables, "_today", partial(today, seeds=(100,)))
    assert "lab/full/base-seed100.json" in comparison("a", columns="C 10").lines[0].ours["full"].files


def test_records_of_a_changed_recipe_are_left_out(ran):
    keep(ran, record("lab/base", 2, [0.1], digest="lab/base yesterday"))
    found = comparison("a", columns="C 10")
    assert found.lines[0].ours["full"].last.n == 2
    assert "their recipe has changed since or their precision is another: 1 of our records" in found.caption


def test_a_broken_record_is_named(ran):
    (ran / "lab" / "full" / "base-seed0.json").write_text("{")
    with pytest.raises(ValueError, match=r"base-seed0.json is not a run record"):
        comparison("a")


def test_patterns(ran):
    assert [line.label for line in comparison("a", rows="taught").lines] == ["C 10", "C 100"]
    assert [line.label for line in comparison("a", columns="C 10").lines] == ["alone", "taught", "given"]
    with pytest.raises(
        ValueError, match=r"a has no result in rows 'nobody' and columns '\*'; its rows are \['alone'"
    ):
        comparison("a", rows="nobody")


def test_csv_is_unrounded(ran):
    found = comparison("a", columns="C 10")
    alone, taught, given = csv.DictReader(io.StringIO(found.frame().to_csv(index=False)))
    assert float(taught["mean"]) == np.mean(last("lab/taught"))
    assert float(taught["difference"]) == pytest.approx(0.13 / 3)
    assert (taught["n"], taught["selection"], taught["profile"]) == ("4", "best", "full")
    assert taught["records"].split()[0] == "lab/full/taught-seed0.json"
    assert (alone["difference"], alone["published_n"]) == ("", "3")
    assert given["recipe"] == ""


def test_markdown_is_a_table(ran):
    lines = comparison("a", columns="C 10").table().to_markdown().splitlines()
    assert lines[0] == "| run | published | ours |"
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert "Chosen." in lines[-1]


def test_latex_escapes(ran):
    text = comparison("a").table().to_latex()
    assert r"T \& t." in text
    assert r"$\pm$" in text
    assert r"95 \% interval" in text
    assert r"$\Delta$ +4.3" in text
    assert not re.search(r"(?<!\\)[%#_]|±|Δ|−", text)
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert [row.count("&") for row in body.strip().splitlines()] == [2] * 4


def test_every_latex_special_character_is_escaped():
    assert table([r"\ & % $ # _ { } ~ ^ < > →"], [], "").to_latex().splitlines()[4] == (
        r"\textbackslash{} \& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} "
        r"\textless{} \textgreater{} $\to$ \\"
    )


class Outline(html.parser.HTMLParser):
    """Tags as they open, and what is never closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_for_a_page(ran):
    text = comparison("a", columns="C 10")._repr_html_()
    outline = Outline(text)
    assert outline.open == []
    names = [tag for tag, _ in outline.tags]
    assert (names.count("caption"), names.count("tr"), names.count("td")) == (1, 4, 6)
    scopes = [attributes["scope"] for tag, attributes in outline.tags if tag == "th"]
    assert scopes == ["col"] * 3 + ["row"] * 3
    titles = [attributes["title"] for _, attributes in outline.tags if "title" in attributes]
    assert "printed: **84.55%**" in titles
    assert any(title.startswith("3 records: lab/full/base-seed0.json, ") for title in titles)
    named = [attributes["data-records"] for _, attributes in outline.tags if "data-records" in attributes]
    assert named == [" ".join(line.ours["full"].files) for line in comparison("a", columns="C 10").lines[:2]]
    assert "<code>lab/full/taught-seed3.json</code>" in text
    assert "<code>lab/taught</code>" in text
    assert "a note" in text
    assert "T &amp; t." in text


def test_all_published_tables_can_be_compared(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path))
    for name in published_module.published_names():
        found = comparison(name)
        assert len(repr(found).splitlines()) == len(found.lines) + 2
        assert Outline(found._repr_html_()).open == []
    assert "no result to compare" in comparison("000-statements").caption


def test_records_are_found_by_the_digest_of_the_real_recipe(monkeypatch, tmp_path):
    recipe = find_recipes("lab/scratch", "short")[0]
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path))
    keep(tmp_path, record(recipe.name, 0, [0.5], "short", recipe.digest))
    keep(tmp_path, record(recipe.name, 1, [0.5], "short", "0" * 12))
    found = comparison("003-results", rows="from scratch")
    assert found.table().rows[0][2:] == ("not run yet", "50.0 (1)")
    assert found.outdated == 1


def test_a_changed_run_that_others_are_measured_against_is_counted_without_its_own_row(ran):
    keep(ran, record("lab/base", 4, [0.5], digest="another"))
    found = comparison("a", rows="taught", columns="C 10")
    assert [line.cell.row for line in found.lines] == ["taught"]
    assert found.outdated == 1


def test_json_is_unrounded(ran):
    found = comparison("a", columns="C 10").as_dict()
    alone, taught, given = found["rows"]
    assert (found["table"], found["outdated"]) == ("a", 0)
    assert taught["mean"] == np.mean(last("lab/taught"))
    assert taught["difference"] == pytest.approx(0.13 / 3)
    assert (alone["difference"], given["recipe"], given["mean"]) == (None, "", None)


FAMILY = """
title = "Our own"
source = "a test"
seeds = [0, 1, 2]
[base]
data = {name = "digits"}
student = {name = "convnet"}
terms = [{kind = "HardLabels"}]
[base.training]
epochs = 3
batch_size = 8
learning_rate = 0.1
weight_decay = 0.0
optimizer = "SGD"
scheduler = "StepLR"
scheduler_options = {step_size = 2}
[singles.alone]
[singles.taught]
teacher = "own/alone@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets"}]
[singles.plain]
teacher = "own/alone@100"
terms = [{kind = "HardLabels"}, {kind = "LogitMatching"}]
[singles.challenger]
teacher = "own/alone@100"
terms = [{kind = "LogitMatching"}]
[singles.staged]
teacher = "own/alone@100"
first_stage = {terms = [{kind = "LogitMatching"}], epochs = 2}
training = {epochs = 1, scheduler_options = {step_size = 1}}
[singles.faster]
teacher = "own/alone@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets"}]
training = {learning_rate = 0.2}
[grids.both.base]
teacher = "own/alone@100"
data = {train_images = 50}
[grids.both.weight.none]
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", weight = 0.0}]
[grids.both.weight.half]
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", weight = 0.5}]
"""


@pytest.fixture
def family(course, monkeypatch, tmp_path):
    """A family of recipes of our own, of which two have published numbers."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.toml").write_text(FAMILY)
    (tmp_path / "published" / "b.csv").write_text(
        FIRST + "r,acc,0.81 +/- 0.02,0.81,0.02,4,accuracy,mean,own/plain,,\n"
        "r,diff,1.25,1.25,,4,logit difference,mean,own/plain,,\n"
        "c,acc,82,0.82,,1,accuracy,last,own/challenger,r,\n"
    )
    monkeypatch.setenv("KDLIB_RECIPES", str(tmp_path / "recipes"))
    published_module._read.cache_clear()
    return course


def keep_own(folder, name, values, profile="full"):
    """Records of a recipe, one a seed."""
    (recipe,) = find_recipes(name, profile)
    for seed, value in enumerate(values):
        run = record(name, seed, [value], profile, recipe.digest)
        run.save(folder / "own" / profile / f"{name.split('/')[1]}-seed{seed}.json")


ALONE, TAUGHT = (0.70, 0.72, 0.71), (0.75, 0.74, 0.79)


def test_a_line_for_each_recipe(family):
    keep_own(family, "own/alone", ALONE)
    keep_own(family, "own/taught", TAUGHT)
    (quick,) = find_recipes("own/alone", "quick")
    found = recipe_table("own/*", live=[record(quick.name, 0, [0.125], "quick", quick.digest)])
    rows = {row[0]: row[1:] for row in found.table().rows}
    assert list(rows) == [recipe.name for recipe in find_recipes("own/*")]
    assert found.table().header == ("recipe", "published", "ours", "ours, short", "digits, quick", "Δ to")
    assert rows["own/alone"] == ("none", "71.0 ± 1.0 (3)", "not run yet", "12.5 (1)", "")
    assert rows["own/plain"][0] == "81.0 ± 2.0 (4), over all epochs"
    assert rows["own/taught"][1].startswith("76.0 ± 2.6 (3); Δ +5.0 (")
    assert rows["own/taught"][-1] == "own/alone"
    assert "the same training on the labels alone" in found.caption


def test_the_difference_of_recipes_is_that_of_scipy(family):
    keep_own(family, "own/alone", ALONE)
    keep_own(family, "own/taught", TAUGHT)
    (line,) = recipe_table("own/taught").lines
    interval = stats.ttest_rel(TAUGHT, ALONE).confidence_interval(0.95)
    difference = line.ours["full"].difference
    assert (difference.low, difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


@pytest.mark.parametrize(
    ("name", "against"),
    [
        ("own/alone", ""),
        ("own/taught", "own/alone"),
        ("own/challenger", "own/plain"),  # as published
        ("own/plain", ""),  # others are measured against it
        ("own/staged", "own/alone"),  # as many epochs in all
        ("own/faster", ""),  # at its rate nothing has the labels alone
        ("own/both/half", "own/both/none"),  # a term without weight says nothing
        ("own/both/none", ""),
    ],
)
def test_what_a_recipe_is_measured_against(family, name, against):
    assert recipe_table(name).lines[0].against == against


@pytest.mark.parametrize(
    ("name", "against"),
    [
        ("cifar/methods/cifar10/110-20/st", "cifar/methods/cifar10/110-20/baseline"),
        ("cifar/methods/cifar10-jpeg/20-20/at", "cifar/methods/cifar10-jpeg/20-20/baseline"),
        ("cifar/fsp-first/cifar100", "cifar/methods/cifar100/20-20/baseline"),
        ("caltech/kd/squared", "caltech/kd/without"),
        ("caltech/augmentation/no-erasing", "caltech/augmentation/all"),
        ("caltech/augmentation/none", ""),
        ("hymenoptera/alpha-whole/0", "hymenoptera/alpha-whole/1"),
        ("lab/alpha/0.1", "lab/scratch"),
        ("lab/teacher", ""),
    ],
)
def test_what_the_recipes_of_the_course_are_measured_against(name, against):
    assert recipe_table(name).lines[0].against == against


def test_recipes_are_exported(family):
    keep_own(family, "own/alone", ALONE)
    keep_own(family, "own/taught", TAUGHT)
    found = recipe_table("own/ta*")
    full, short, _quick = csv.DictReader(io.StringIO(found.frame().to_csv(index=False)))
    assert float(full["mean"]) == np.mean(TAUGHT)
    assert float(full["difference"]) == pytest.approx(np.mean(TAUGHT) - np.mean(ALONE))
    assert (full["against"], full["published"]) == ("own/alone", "")
    assert full["records"].split()[0] == "own/full/taught-seed0.json"
    assert (short["profile"], short["mean"], short["records"]) == ("short", "", "")
    assert found.table().to_markdown().splitlines()[0].startswith("| recipe | published | ours |")
    assert r"$\Delta$ +5.0" in found.table().to_latex()
    assert [row["mean"] for row in found.as_dict()["rows"]] == [np.mean(TAUGHT), None, None]
    published = recipe_table("own/challenger").rows()[0]
    assert (published["tables"], published["published"]) == ("b", "0.82")


def test_changed_recipes_are_left_out_and_counted_with_what_they_are_measured_against(family):
    keep_own(family, "own/taught", TAUGHT)
    for name in ("own/alone", "own/taught"):
        run = record(name, 3, [0.5], "full", "0" * 12)
        run.save(family / "own" / "full" / f"{name.split('/')[1]}-seed3.json")
    found = recipe_table("own/taught")
    assert found.outdated == 2
    assert found.lines[0].ours["full"].last.n == 3
    assert "has changed since or their precision is another: 2 of our records" in found.caption


def test_one_number_of_several_tables_is_shown_once():
    (line,) = recipe_table("caltech/kd/with").lines
    assert len(line.published) == 2
    assert line.cells()[1] == "84.5, best on test"


def test_several_numbers_of_a_recipe_say_how_they_were_chosen():
    (line,) = recipe_table("caltech/alpha/0").lines
    assert line.cells()[1] == "79.9, last epoch; 82.7, best on test"


def test_a_frame_has_a_row_for_each_run(ran):
    for path in ran.glob("lab/full/*.json"):
        run = RunRecord.load(path)
        dataclasses.replace(run, label=run.recipe["name"]).save(path)
    plain = dataclasses.replace(record("x/y", 5, [0.5], "short"), recipe=None, label="alone")
    plain.save(ran / "01-first" / "short" / "alone-seed5.json")
    found = frame("lab/t*")
    assert found.columns[:4].tolist() == ["name", "profile", "seed", "accuracy"]
    assert found["accuracy"].tolist() == last("lab/taught")
    assert found["file"][0] == "lab/full/taught-seed0.json"
    assert frame("*/alone")["name"].tolist() == ["01-first/alone"]
    assert len(frame()) == 8
    with pytest.raises(ValueError, match="is called 'lab/tought'; did you mean 'lab/taught'"):
        frame("lab/tought")
