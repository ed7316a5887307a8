"""The pages of recorded runs, and the links that lead to them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from made_up_course import keep_record

from ci.chapters import CourseError
from ci.pages import records
from ci.pages.records import Group, key_of, load_groups, record_pages, with_links

NAME = "cifar/methods/cifar10/20-20/st"
RECIPE = {"name": NAME, "profile": "full", "digest": "0123456789ab", "settings": {}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        keep_record(tmp_path, "01-alone/short/taught, T = 4 & <more>", seed)
        keep_record(tmp_path, f"cifar/full/{NAME}", seed, RECIPE, commit="def5678+" if seed else "abc1234")
    return tmp_path


@pytest.fixture
def groups(results: Path) -> dict[str, Group]:
    return {key_of(group.place(group.records[0])): group for group in load_groups(results)}


def page(results: Path, name: str) -> str:
    return record_pages(load_groups(results), {"01-alone": "Alone"})[name]


def test_the_first_page_lists_the_others(results: Path) -> None:
    first = page(results, "records")
    assert "| [Alone](records-01-alone.md) | short | 2 | 2026-11-20 to 2026-11-21 | abc1234 |" in first
    assert "| [cifar](records-cifar.md) | full | 2 | 2026-11-20 to 2026-11-21 | abc1234, def5678+ |" in first


def test_without_records_there_is_one_page(tmp_path: Path) -> None:
    pages = record_pages(load_groups(tmp_path), {})
    assert list(pages) == ["records"]
    assert "There are no records yet." in pages["records"]


def test_a_record_of_a_recipe_has_the_commands_that_repeat_it(results: Path) -> None:
    text = page(results, "records-cifar")
    assert f"git checkout abc1234\nkd run {NAME} --profile full --seed 0\n" in text
    assert "git checkout def5678  # and changes to it that were not committed\n" in text
    for seed in (0, 1):
        assert f"<code>kd run {NAME} --profile full --seed {seed}</code>" in text
        assert f"<code>kd verify cifar/full/{records.slug_of(NAME)}-seed{seed}.json</code>" in text


def test_the_command_on_the_page_is_one_that_kd_takes(results: Path) -> None:
    from typer.main import get_command

    from kdlib.cli import app

    run, verify = re.findall(r"<code>kd (.*?)</code>", page(results, "records-cifar"))[:2]
    for words, expected in ((shlex.split(run), {"pattern": NAME}), (shlex.split(verify), {})):
        command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        parsed = command.make_context(words[0], words[1:]).params
        assert expected.items() <= parsed.items()


def test_a_record_of_a_chapter_is_repeated_by_its_chapter(results: Path) -> None:
    text = page(results, "records-01-alone")
    assert "make book PROFILE=short CHAPTERS=&quot;01&quot;" in text
    assert "<h3>taught, T = 4 &amp; &lt;more&gt;</h3>" in text
    assert "kd run" not in text


def test_a_record_says_where_it_was_made(results: Path) -> None:
    text = page(results, "records-01-alone")
    assert "Accuracy 85.0 ± 7.1 % (2). Commit abc1234; device cpu (x86_64); threads 1;" in text
    assert "images 50 of digits, train; fingerprint 683b867e678a33bb" in text
    assert "<td>80.00 %</td><td>2026-11-20 06:19</td><td>1.2 s</td>" in text


def test_what_differs_between_seeds_has_a_column(results: Path) -> None:
    text = page(results, "records-cifar")
    assert '<th scope="col">commit</th>' in text
    assert "<td>def5678+</td>" in text
    assert '<th scope="col">device</th>' not in text


def test_raw_markup_has_no_empty_line_that_would_end_it(results: Path) -> None:
    sections = re.findall(r"<section.*?</section>", page(results, "records-cifar"), re.DOTALL)
    assert len(sections) == 1
    assert "\n\n" not in sections[0]


def test_a_cell_of_a_comparison_leads_to_its_records(groups: dict[str, Group]) -> None:
    files = [f"cifar/full/{records.slug_of(NAME)}-seed{seed}.json" for seed in (0, 1)]
    text = (
        f'<table class="kdlib-table kdlib-comparison"><td><span data-records="{" ".join(files)}" title="2">'
        f"85.0</span></td><td><span>not run yet</span></td></table><code>{files[0]}</code>"
        '<span data-records="cifar/full/gone-seed0.json">1.0</span><code>cifar/full/gone-seed0.json</code>'
    )
    linked = with_links(text, "09-cifar", groups)
    address = f"records-cifar.html#full-{records.slug_of(NAME)}"
    assert linked.count(f'<a class="kdlib-record" href="{address}">') == linked.count("<a ") == 2
    assert f'<span title="2"><a class="kdlib-record" href="{address}">85.0</a></span>' in linked
    assert f'id="full-{records.slug_of(NAME)}"' in page_of(groups)


def page_of(groups: dict[str, Group]) -> str:
    return record_pages(list(groups.values()), {})["records-cifar"]


def test_what_kdlib_writes_is_what_is_linked(
    groups: dict[str, Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The markup of `comparison` and of `table`, not one that this test made up."""
    from kdlib.experiments import table
    from kdlib.experiments.report.table import Entry

    file = f"cifar/full/{records.slug_of(NAME)}-seed0.json"
    cell = Entry(["85.0 ± 1.0 (3)", "best on test 86.0"], "3 records", [file, "b"])
    compared = table(["run", "ours"], [["taught", cell]], "A caption", "kdlib-comparison")._repr_html_()
    assert with_links(compared, "09-cifar", groups).count("<a ") == 1
    rows = [
        ["taught, T = 4 & <more>", "80.1 %", "85.0 %"],
        ["other", "1 %", "not run yet"],
        ["weight 3", "", "3 %"],
    ]
    shown = table(["student", "this run (quick)", "recorded (short)"], rows, "A caption")._repr_html_()
    linked = with_links(shown, "01-alone", groups)
    assert linked.count("<a ") == 2
    address = "records-01-alone.html#short-taught-t-4-more"
    assert f'<td>80.1 %</td><td><a class="kdlib-record" href="{address}">85.0 %</a></td>' in linked
    assert '<a class="kdlib-record" href="records-01-alone.html">3 %</a>' in linked
    assert with_links(shown, "02-library", groups) == shown
    assert re.sub(r"</?a[^>]*>", "", linked) == shown


def test_slugs_are_those_of_kdlib() -> None:
    from kdlib.training.record import _slug

    for label in (NAME, "taught, T = 4 · α", "Weight 0.3", "..x--"):
        assert records.slug_of(label) == _slug(label)


def test_the_course_s_own_records_are_all_on_the_pages() -> None:
    results = Path(__file__).parents[3] / "data" / "results"
    groups = load_groups(results)
    count = len(list(results.glob("*/*/[!.]*.json")))
    assert sum(len(group.records) for group in groups) == count
    text = "".join(record_pages(groups, {}).values())
    assert count > 0
    assert text.count("<section ") == len({group.address for group in groups}) == len(groups)
    ids = re.findall(r'<section [^>]*id="([^"]*)"', text)
    assert sorted(ids) == sorted(group.address.partition("#")[2] for group in groups)


@pytest.mark.parametrize("text", ["", "{}", '{"seed": 5}'])
def test_a_file_that_is_no_record_is_named(results: Path, text: str) -> None:
    (results / "cifar/full/x-seed0.json").write_text(text)
    with pytest.raises(CourseError, match=r"x-seed0\.json is no record"):
        load_groups(results)


def test_a_file_that_is_named_wrongly(results: Path) -> None:
    path = results / "01-alone/short/taught-t-4-more-seed0.json"
    path.rename(path.with_name("taught-t-4-more-seed7.json"))
    with pytest.raises(CourseError, match=r"seed7\.json is the record of seed 0: name it so"):
        load_groups(results)
