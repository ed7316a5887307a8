"""The sweep explorer on made-up records: what it shows, and that its table is that of `comparison`."""

from __future__ import annotations

import html
import json
import random
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="anywidget is not installed: pip install kdlib[notebook]")

from scipy import stats

from kdlib.course.figures import SweepExplorer
from kdlib.experiments import RunRecord
from kdlib.experiments.recipes import Recipe, find_recipes
from kdlib.experiments.report.comparison import Comparison, comparison

SWEEPS = {
    "pair 20 → 20": "cifar/methods/*/20-20/*",
    "pair 110 → 110": "cifar/methods/*/110-110/*",
    "FSP": ("cifar/methods/*/20-20/baseline", "cifar/methods/*/20-20/fsp", "cifar/fsp-first/*"),
}
METHODS = ["baseline", "logit", "st", "at", "st-at", "fsp"]
NAMES = {"logit": "Logits", "st": "ST"}


def made_up(recipe: Recipe, seed: int) -> RunRecord:
    """A record of a recipe, with numbers from nowhere."""
    rng = random.Random(f"{recipe.digest}, {seed}")
    count = recipe.training.epochs
    start, end = rng.uniform(0.2, 0.4), rng.uniform(0.85, 0.93)
    rise = [end - (end - start) * 0.5 ** (12 * epoch / count) for epoch in range(count)]
    accuracy = [round(value + rng.gauss(0, 0.004), 4) for value in rise]
    loss = [3 * (1 - value) + rng.uniform(0, 0.05) for value in accuracy]
    epochs = {"loss": loss, "hard labels": loss, "test_accuracy": accuracy, "test_loss": loss}
    if recipe.teacher is not None:
        epochs["test_logit_difference"] = [2 * value for value in loss]
    return RunRecord(
        seed=seed,
        settings={"epochs": count},
        data={"source": recipe.data.name},
        epochs=epochs,
        final={"accuracy": accuracy[-1]},
        environment={"device": "made up"},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        label=recipe.name,
        profile=recipe.profile,
        recipe=recipe.as_dict(),
    )


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty data/results."""
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def keep(shelf: Path) -> Callable[..., list[RunRecord]]:
    """Writes made-up records of the recipes of a pattern, of these seeds or the recipes' own."""

    def keep_(pattern: str, profile: str, seeds: Iterable[int] | None = None) -> list[RunRecord]:
        runs = [
            made_up(recipe, seed)
            for recipe in find_recipes(pattern, profile)
            for seed in (recipe.seeds if seeds is None else seeds)
        ]
        for run in runs:
            assert run.recipe is not None
            run.save(shelf / run.recipe["family"] / run.place)
        return runs

    return keep_


def embedded(page: str) -> dict:
    """The JSON that a figure's HTML carries."""
    found = re.search(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


def rows(figure: SweepExplorer) -> dict[str, list[str]]:
    """The figures of each method of the table as it stands."""
    return {label: figures for label, *figures in figure.table().rows}


# ---- nothing, little and all ----


def test_with_no_record_every_choice_is_there_and_says_what_to_run(shelf):
    figure = SweepExplorer(SWEEPS)
    assert list(figure.state["data"]) == [
        "cifar10, full",
        "cifar100, full",
        "cifar10-jpeg, full",
        "cifar10-jpeg, short",
        "cifar100, short",
        "digits, quick",
    ]
    for data in figure.state["data"]:
        for sweep in SWEEPS:
            figure.data, figure.sweep = data, sweep
            assert {last for last, *_ in rows(figure).values()} == {"not run yet"}
            assert "none of" in figure.alt_text()
            assert "kd run cifar/" in figure.alt_text().replace("'", "")


@pytest.mark.parametrize("profile", ["full", "short", "quick"])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_commands_run_what_is_missing_and_nothing_else(shelf, keep, sweep, profile):
    if profile != "quick":
        keep("cifar/methods/*/20-20/st", profile, seeds=[1])
    figure = SweepExplorer(SWEEPS)
    for data, sweeps in figure.state["data"].items():
        if not data.endswith(profile):
            continue
        chosen = sweeps[list(SWEEPS).index(sweep)]
        asked = []
        for command in chosen["commands"]:
            kd, run, pattern, option, value, *seeds = shlex.split(command)
            assert (kd, run, option, value) == ("kd", "run", "--profile", profile)
            for recipe in find_recipes(pattern, profile):
                numbers = [int(seed) for seed in seeds if seed != "--seed"] or recipe.seeds
                asked += [(recipe.digest, seed) for seed in numbers]
        patterns = [SWEEPS[sweep]] if isinstance(SWEEPS[sweep], str) else SWEEPS[sweep]
        recipes = [recipe for pattern in patterns for recipe in find_recipes(pattern, profile)]
        wanted = {
            (recipe.digest, seed)
            for recipe in recipes
            if recipe.data.name == data.split(",")[0]
            for seed in recipe.seeds
            if not (recipe.name.endswith("/20-20/st") and profile != "quick" and seed == 1)
        }
        assert len(asked) == len(set(asked))
        assert set(asked) == wanted


def test_one_seed_has_no_spread_and_no_interval(shelf, keep):
    keep("cifar/methods/cifar10-jpeg/20-20/[bls]*", "short", seeds=[0])
    figure = SweepExplorer(SWEEPS, NAMES)
    assert (figure.data, figure.sweep) == ("cifar10-jpeg, short", "pair 20 → 20")
    shown = rows(figure)
    assert list(shown) == ["baseline", "Logits", "ST", "at", "st-at", "fsp"]
    assert re.fullmatch(r"\d\d\.\d \(1\)", shown["ST"][0])
    assert shown["ST"][1] == "needs 2 shared seeds"
    assert shown["at"][:3] == ["not run yet", "", ""]
    assert "Not run yet: at, fsp." in figure.alt_text()


def test_starts_where_two_methods_can_be_compared(shelf, keep):
    live = [made_up(recipe, 0) for recipe in find_recipes("cifar/methods/cifar10/20-20/*", "quick")]
    keep("cifar/methods/cifar10/20-20/st", "full", seeds=[0])
    assert SweepExplorer(SWEEPS, live=live).data == "digits, quick"
    keep("cifar/methods/cifar100/110-110/[bs]*", "short", seeds=[0])
    figure = SweepExplorer(SWEEPS, live=live)
    assert (figure.data, figure.sweep) == ("cifar100, short", "pair 110 → 110")


def test_live_runs_are_quick_and_kept_apart(shelf, keep):
    keep("cifar/methods/cifar10/20-20/*", "full")
    live = [
        made_up(recipe, seed)
        for recipe in find_recipes("cifar/methods/cifar10/20-20/*", "quick")
        for seed in (0, 1)
    ]
    figure, without = SweepExplorer(SWEEPS, live=live), SweepExplorer(SWEEPS)
    for data, sweeps in figure.state["data"].items():
        assert (sweeps == without.state["data"][data]) == (data != "digits, quick")
    figure.data = "digits, quick"
    assert all(last.endswith("(2)") for last, *_ in rows(figure).values())
    # The digits' recipes of two published tables are one: no number is printed beside them.
    assert {published for *_, published in rows(figure).values()} == {""}
    assert "live and not kept" in " ".join(figure.state["data"]["digits, quick"][0]["about"])


def test_a_record_of_a_recipe_that_has_changed_is_left_out_and_counted(shelf, keep):
    runs = keep("cifar/methods/cifar10/20-20/*", "full")
    (old,) = [run for run in runs if run.label.endswith("/st") and run.seed == 1]
    replace(old, recipe=old.recipe | {"digest": "0" * 12}).save(shelf / "cifar" / old.place)
    figure = SweepExplorer(SWEEPS)
    assert rows(figure)["st"][0].endswith("(2)")
    assert "recipe has changed since or their precision is another: 1 of our records" in " ".join(
        figure.state["data"]["cifar10, full"][0]["about"]
    )


def test_teachers_are_named_and_are_no_seeds(shelf, keep):
    keep("cifar/methods/cifar10/20-20/*", "full")
    (teacher,) = keep("cifar/methods/cifar10/20-20/baseline", "full", seeds=[100])
    figure = SweepExplorer(SWEEPS)
    about = " ".join(figure.state["data"]["cifar10, full"][0]["about"])
    assert f"teacher resnet20 (seed 100: {100 * teacher.final['accuracy']:.1f} %)" in about
    assert rows(figure)["baseline"][0].endswith("(3)")


# ---- figures: those of kdlib.experiments.report.comparison, and of scipy ----


def agree(figure: SweepExplorer, table: Comparison, profile: str, labels: dict[str, str]) -> int:
    """Compare every line of a published table that the explorer has too; return how many figures agreed."""
    shown, compared = rows(figure), 0
    for line in table.lines:
        label = labels.get(line.cell.recipe)
        if label is None:
            continue
        last, difference, best, published = shown[label]
        figures = line.entry(profile).figures
        assert figures[0] == last
        for text in figures[1:]:
            if text.startswith("Δ "):
                assert text == f"Δ {difference}"
            elif text.startswith("best on test"):
                assert text == f"best on test {best}"
            else:
                continue
            compared += 1
        assert ", ".join(line.cell.figures()) in published
        compared += 1
    return compared


@pytest.mark.parametrize("profile", ["full", "short"])
@pytest.mark.parametrize("pair", ["20-20", "110-110"])
def test_figures_of_the_methods_are_those_of_the_table(shelf, keep, profile, pair):
    keep(f"cifar/methods/*/{pair}/*", profile)
    column = f"CIFAR 10, {pair.replace('-', ' >> ')}"
    figure = SweepExplorer({"pair": f"cifar/methods/*/{pair}/*"})
    figure.data = {"full": "cifar10, full", "short": "cifar10-jpeg, short"}[profile]
    labels = {f"cifar/methods/cifar10/{pair}/{method}": method for method in METHODS}
    # Last epoch, best and published of six, differences of five.
    assert agree(figure, comparison("001-methods", columns=column), profile, labels) == 6 + 6 + 5


@pytest.mark.parametrize(
    ("metric", "column", "differences"),
    [
        ("test accuracy", "epoch_acc_l", 2),
        ("loss on test images", "epoch_loss_l", 0),  # each alpha has a loss of its own
        ("logit difference to the teacher, test images", "*", 2),
    ],
)
def test_figures_of_every_published_metric_are_those_of_the_table(shelf, keep, metric, column, differences):
    keep("hymenoptera/alpha/*", "full")
    figure = SweepExplorer({"alpha": ("hymenoptera/alpha/1", "hymenoptera/alpha/*")})
    figure.metric = metric
    labels = {f"hymenoptera/alpha/{alpha}": f"alpha {alpha}" for alpha in ("0", "0.5", "1")}
    table = comparison("002-alpha", rows="alpha*", columns=column)
    if column == "*":
        lines = tuple(line for line in table.lines if line.cell.metric == "logit difference")
        table = replace(table, lines=lines)
    assert len(table.lines) == 3
    assert agree(figure, table, "full", labels) == 3 + differences


@pytest.mark.parametrize("rate", ["1e-4", "1e-4-cosine", "2e-4", "2e-4-cosine"])
def test_figures_beside_two_published_ones(shelf, keep, rate):
    keep(f"caltech/schedule/{rate}/*", "full")
    sweep = (f"caltech/schedule/{rate}/without", f"caltech/schedule/{rate}/with")
    figure = SweepExplorer({"rate": sweep}, {"kd with": "with", "kd without": "without"})
    labels = {f"caltech/schedule/{rate}/{kd}": kd for kd in ("with", "without")}
    assert agree(figure, comparison("000-logs-last-epoch"), "full", labels) == 3
    assert agree(figure, comparison("000-scheduler"), "full", labels) == 5
    assert all("last epoch" in published for *_, published in rows(figure).values())


def test_figures_are_those_of_numpy_and_scipy(shelf, keep):
    runs = keep("cifar/methods/cifar10/20-20/*", "full")
    curves = {
        method: np.array([run.epochs["test_accuracy"] for run in runs if run.label.endswith(f"/{method}")])
        for method in ("st", "baseline")
    }
    last, difference, best, _ = rows(SweepExplorer(SWEEPS))["st"]
    final = 100 * curves["st"][:, -1]
    assert last == f"{final.mean():.1f} ± {final.std(ddof=1):.1f} (3)"
    top = 100 * curves["st"].max(axis=1)
    assert best == f"{top.mean():.1f} ± {top.std(ddof=1):.1f}"
    test = stats.ttest_rel(final, 100 * curves["baseline"][:, -1])
    low, high = test.confidence_interval(0.95)
    mean = (final - 100 * curves["baseline"][:, -1]).mean()
    assert difference == f"{mean:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", "−")


def test_differences_are_over_the_seeds_that_both_have(shelf, keep):
    ours = keep("cifar/methods/cifar10/20-20/st", "full", seeds=[0, 2, 3])
    theirs = keep("cifar/methods/cifar10/20-20/baseline", "full", seeds=[0, 1, 2])
    shared = [
        100 * (a.final["accuracy"] - b.final["accuracy"]) for a in ours for b in theirs if a.seed == b.seed
    ]
    assert len(shared) == 2
    assert rows(SweepExplorer(SWEEPS))["st"][1].startswith(f"{np.mean(shared):+.1f} ".replace("-", "−"))


# ---- curves ----


def test_long_curves_are_thinned_to_their_last_epoch_and_say_so(shelf, keep):
    runs = keep("cifar/methods/cifar10/20-20/*", "full")
    chosen = SweepExplorer(SWEEPS).state["data"]["cifar10, full"][0]
    curve = chosen["methods"][0]["curves"][0]
    epochs = curve["first"] + curve["step"] * np.arange(len(curve["seeds"][0]))
    assert epochs.tolist() == list(range(5, 201, 5))
    for run, values in zip(runs[:3], curve["seeds"], strict=True):
        np.testing.assert_allclose(
            values, 100 * np.array(run.epochs["test_accuracy"])[epochs - 1], atol=0.005
        )
    assert "The curves show one epoch in 5" in " ".join(chosen["about"])


def test_short_curves_are_whole(shelf, keep):
    keep("cifar/methods/cifar10/20-20/*", "short")
    chosen = SweepExplorer(SWEEPS).state["data"]["cifar10-jpeg, short"][0]
    curve = chosen["methods"][0]["curves"][0]
    assert (curve["first"], curve["step"], len(curve["seeds"][0])) == (1, 1, 6)
    assert "one epoch in" not in " ".join(chosen["about"])


def test_a_second_stage_begins_where_the_first_has_ended(shelf, keep):
    keep("cifar/fsp-first/cifar10", "short")
    chosen = SweepExplorer(SWEEPS).state["data"]["cifar10-jpeg, short"][2]
    (curve,) = [method["curves"][0] for method in chosen["methods"] if method["seeds"]]
    assert (curve["first"], len(curve["seeds"][0])) == (4, 3)


def test_tests_now_and_then_have_their_epochs(shelf, keep):
    (run,) = keep("cifar/methods/cifar10/20-20/st", "short", seeds=[0])
    run.epochs["test_accuracy"] = run.epochs["test_accuracy"][1::2]
    run.save(shelf / "cifar" / run.place)
    chosen = SweepExplorer(SWEEPS).state["data"]["cifar10-jpeg, short"][0]
    curve = chosen["methods"][METHODS.index("st")]["curves"][0]
    assert (curve["first"], curve["step"], len(curve["seeds"][0])) == (2, 2, 3)


def test_records_of_several_lengths_are_refused(shelf, keep):
    first, *_ = keep("cifar/methods/cifar10/20-20/st", "short")
    first.epochs["test_loss"] = first.epochs["test_loss"][:4]
    first.save(shelf / "cifar" / first.place)
    with pytest.raises(ValueError, match=r"cifar10/20-20/st \(short\) have \[4, 6\] values of 'test_loss'"):
        SweepExplorer(SWEEPS)


def test_every_record_of_the_course_makes_a_light_page(shelf, keep):
    keep("cifar/*", "full")
    keep("cifar/*", "short")
    page = SweepExplorer(SWEEPS).page()
    assert len(page) < 700_000


def test_the_page_has_a_picture_that_says_its_finding_and_asks_for_nothing(shelf, keep):
    keep("cifar/methods/cifar10/20-20/*", "full")
    figure = SweepExplorer(SWEEPS)
    page = figure.page()
    assert page == figure.page()
    before = figure.picture()
    figure.hidden = ["at"]
    assert figure.picture() != before
    figure.hidden = []
    figure.view = "second half"
    assert figure.picture() != before
    figure.view = "all epochs"
    picture = re.search(r'<img alt="([^"]+)" src="data:image/png;base64,', page)
    assert picture
    assert html.unescape(picture[1]) == figure.alt_text()
    assert f"st {rows(figure)['st'][0]}" in figure.alt_text()
    assert embedded(page)["module"] == figure._esm
    assert set(embedded(page)["traits"]) == {"state", *figure.controls}
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"']+", page) == []


def test_a_sweep_that_is_not_for_these_data_says_so(shelf, open_html):
    figure = SweepExplorer(
        {"ten": "cifar/methods/cifar10/20-20/*", "hundred": "cifar/methods/cifar100/20-20/*"}
    )
    figure.sweep = "hundred"
    assert "there is no recipe for it" in figure.alt_text()
    page = open_html(figure.page())
    assert page.locator(".kd-panel svg text").all_text_contents() == ["no recipe"]
    assert "hundred: no recipe" in page.get_by_label("Sweep", exact=True).inner_text()


FAULTS = {
    "nothing to explore": (lambda: SweepExplorer({}), "there is no sweep to explore"),
    "two of one name": (
        lambda: SweepExplorer({"a": "lab/alpha/*"}, {"alpha 0.1": "x", "alpha 0.2": "x"}),
        "2 methods of one sweep are called 'x'; give them other names",
    ),
    "an unknown recipe": (lambda: SweepExplorer({"a": "cifar/methods/*/20-20/ts"}), "no recipe is called"),
    "an unknown family": (lambda: SweepExplorer({"a": "cifra/*"}), "no family of recipes 'cifra'.*cifar"),
    "unknown data": (lambda: set_to(data="mnist"), "data must be one of 'cifar10, full', .*, but is 'mnist'"),
    "an unknown sweep": (lambda: set_to(sweep="pair"), "sweep must be one of .*, but is 'pair'"),
    "an unknown metric": (lambda: set_to(metric="f1"), "metric must be one of 'test accuracy', .* is 'f1'"),
    "an unknown view": (lambda: set_to(view="all"), "view must be one of 'all epochs', 'second half', but"),
    "an epoch below the first": (
        lambda: set_to(epoch=-1),
        "epoch must be 0, for the last, or more, but is -1",
    ),
    "nobody to hide": (lambda: set_to(hidden=["TS"]), "hidden must name methods, at, .*, but has 'TS'"),
}


def set_to(**controls: object) -> None:
    figure = SweepExplorer(SWEEPS)
    for name, value in controls.items():
        setattr(figure, name, value)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_in_a_sentence(shelf, fault):
    act, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        act()


# ---- as a reader meets it ----


@pytest.fixture
def explorer(shelf, keep) -> SweepExplorer:
    """Full runs of a few methods, short ones of all, and quick ones from a page."""
    keep("cifar/methods/cifar10/20-20/[bls]*", "full")
    keep("cifar/methods/cifar10/*", "short")
    live = [
        made_up(recipe, s)
        for recipe in find_recipes("cifar/methods/cifar10/20-20/*", "quick")
        for s in (0, 1)
    ]
    return SweepExplorer(SWEEPS, NAMES, live)


def on_page(page) -> dict[str, list[str]]:
    """The table's cells as they are read, by method and in the order of all columns."""
    heads = page.locator(".kd-runs thead th").all_inner_texts()
    lines = {}
    for line in page.locator(".kd-runs tbody tr").all():
        cells = dict(zip(heads[1:], line.locator("td").all_text_contents(), strict=True))
        difference = next((text for head, text in cells.items() if head.startswith("Δ")), "")
        lines[line.locator("th").inner_text().strip()] = [
            cells["last epoch"], difference, cells.get("best on test", ""), cells.get("published", ""),
        ]  # fmt: skip
    return lines


def test_the_page_has_the_table_of_every_choice(open_html, explorer):
    page = open_html(explorer.page())
    metrics = [metric["name"] for metric in explorer.state["metrics"]]
    assert metrics[-1] == "training, term: hard labels"
    for data in explorer.state["data"]:
        page.get_by_label("Data, profile").select_option(data)
        for sweep in SWEEPS:
            page.get_by_label("Sweep", exact=True).select_option(sweep)
            for metric in metrics:
                page.get_by_label("Metric").select_option(metric)
                explorer.data, explorer.sweep, explorer.metric = data, sweep, metric
                assert on_page(page) == rows(explorer), (data, sweep, metric)
                said = page.locator(".kd-readout").inner_text()
                assert data in said
                for label, (last, *_rest) in rows(explorer).items():
                    if last[0].isdigit():
                        assert re.search(rf"(: |, ){re.escape(label)} {last.split()[0]}[,.]", said)


def test_menus_answer_to_the_keyboard(open_html, explorer):
    page = open_html(explorer.page())
    curves = page.locator(".kd-panel svg")
    for name in ("Data, profile", "Sweep", "Metric"):
        before = curves.inner_html(), page.locator(".kd-runs").inner_text()
        page.get_by_label(name, exact=True).focus()
        page.keyboard.press("ArrowDown")
        assert (curves.inner_html(), page.locator(".kd-runs").inner_text()) != before, name


def test_what_is_not_run_says_so_with_its_command(open_html, explorer):
    page = open_html(explorer.page())
    data = page.get_by_label("Data, profile")
    assert "cifar100, full: not run yet" in data.locator("option").all_inner_texts()
    assert "pair 20 → 20: 4 of 6 run" in page.get_by_label("Sweep", exact=True).inner_text()
    data.select_option("cifar100, full")
    assert page.locator(".kd-missing pre").is_visible()
    assert (
        page.locator(".kd-missing pre").inner_text()
        == "kd run 'cifar/methods/cifar100/20-20/*' --profile full"
    )
    assert page.get_by_role("slider").count() == 0
    assert page.locator(".kd-panel svg text").all_text_contents() == ["not run yet"]
    data.select_option("cifar10, full")
    assert page.get_by_role("slider").count() == 1
    assert not page.locator(".kd-missing pre").is_visible()
    page.locator(".kd-missing summary").click()
    assert page.locator(".kd-missing pre").inner_text().splitlines() == [
        "kd run cifar/methods/cifar10/20-20/at --profile full",
        "kd run cifar/methods/cifar10/20-20/fsp --profile full",
    ]


@pytest.mark.parametrize("by", ["click", "keyboard"])
def test_a_curve_can_be_hidden(open_html, explorer, by):
    page = open_html(explorer.page())
    box = page.get_by_role("checkbox", name="curve of ST", exact=True)
    labels = page.locator(".kd-panel svg text.kd-name")
    assert "ST" in labels.all_text_contents()
    if by == "click":
        box.click()
    else:
        box.focus()
        page.keyboard.press("Space")
    assert not box.is_checked()
    assert box.evaluate("box => box === document.activeElement") or by == "click"
    assert "ST" not in labels.all_text_contents()
    assert " ST " not in page.locator(".kd-readout").inner_text()
    assert len(on_page(page)) == 6
    for other in page.get_by_role("checkbox").all():
        other.uncheck()
    assert page.locator(".kd-panel svg text").all_text_contents() == ["all curves are hidden"]
    box.check()
    assert labels.all_text_contents() == ["ST"]


def test_the_second_half_is_drawn_alone(open_html, explorer):
    page = open_html(explorer.page())
    slider = page.get_by_role("slider", name="epoch")
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "epoch 5"
    page.get_by_role("radio", name="second half").check()
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "epoch 100"
    assert "Epoch 100 of 200" in page.locator(".kd-readout").inner_text()


def test_the_curves_are_where_the_numbers_are(open_html, explorer):
    page = open_html(explorer.page())
    page.get_by_label("Data, profile").select_option("cifar10-jpeg, short")
    path = page.locator(".kd-panel svg path.kd-mean").first.get_attribute("d")
    drawn = np.array([[float(x) for x in point.split()] for point in re.split("[ML]", path)[1:]])
    curve = explorer.state["data"]["cifar10-jpeg, short"][0]["methods"][0]["curves"][0]
    mean = np.mean(curve["seeds"], axis=0)
    assert len(drawn) == len(mean)
    assert np.corrcoef(drawn[:, 1], -mean)[0, 1] == pytest.approx(1, abs=1e-5)
    assert page.locator(".kd-panel svg path.kd-band").count() == 6
    assert page.locator(".kd-panel svg path.kd-seed").count() == 6 * 3


def test_the_marker_can_be_dragged(open_html, drag, explorer):
    page = open_html(explorer.page())
    drag(page, 0.7, 0.3)
    assert 30 < int(page.get_by_role("slider").get_attribute("aria-valuetext").split()[-1]) < 90


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 360])
def test_no_accessibility_violations(open_html, explorer, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_html(explorer.page(), theme=theme, width=width)
    for data in ("cifar10, full", "cifar100, full"):
        page.get_by_label("Data, profile").select_option(data)
        found = axe.Axe().run(page).response["violations"]
        assert [(fault["impact"], fault["id"], fault["nodes"][0]["html"]) for fault in found] == []


COLOURS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.querySelector(".kd-fig")).backgroundColor);
  const against = (colour) => {
    const [low, high] = [light(colour), ground].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const of = (parts, property) => Math.min(
    ...[...document.querySelectorAll(parts)].map((node) => against(getComputedStyle(node)[property])));
  return { text: of(".kd-fig svg text", "fill"), lines: of(".kd-fig svg .kd-mean", "stroke") };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("pattern", ["cifar/methods/cifar10/20-20/*", "lab/temperature/*"])
def test_curves_stand_out_from_their_ground(shelf, keep, open_html, theme, pattern):
    keep(pattern, "full", seeds=[0])
    page = open_html(SweepExplorer({"sweep": pattern}).page(), theme=theme)
    contrasts = page.evaluate(COLOURS)
    assert contrasts["text"] >= 4.5
    assert contrasts["lines"] >= 3


@pytest.mark.parametrize("width", [320, 900])
def test_readable_and_reachable_at_any_width(open_html, explorer, width):
    page = open_html(explorer.page(), width=width)
    for data in ("cifar10, full", "cifar100, full"):
        page.get_by_label("Data, profile").select_option(data)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = (
            page.locator(".kd-fig")
            .locator("span, p, text, td, th, select, pre")
            .evaluate_all("nodes => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))")
        )
        assert min(sizes) >= 12
        for control in page.locator(".kd-fig").locator("input:visible, select, summary:visible").all():
            box = control.bounding_box()
            assert box["height"] >= 40
            assert box["width"] >= 40


def test_long_names_keep_what_tells_them_apart_on_a_phone(shelf, keep, open_html):
    keep("caltech/augmentation/*", "short", seeds=[0])
    page = open_html(SweepExplorer({"augmentation": "caltech/augmentation/*"}).page(), width=360)
    written = page.locator(".kd-panel svg text.kd-name").all_text_contents()
    assert len(set(written)) == 5
    assert {"all", "no-erasing", "none"} < set(written)


def test_names_are_text_never_markup(shelf, open_html):
    nasty = "</script><b>bold</b><!--"
    page = open_html(SweepExplorer({nasty: "lab/temperature/*"}, {"temperature 1": nasty}).page())
    assert page.locator("b").count() == 0
    assert nasty in page.locator(".kd-readout").inner_text()
    assert nasty in page.locator(".kd-runs tbody th").all_inner_texts()
