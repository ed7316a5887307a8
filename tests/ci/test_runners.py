"""From a plan over several machines to pages, on this machine, with a CPU in the GPU's place."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from made_up_course import chapter_cells, make_course, record_text, write_notebook

from ci import commands, execute, machine, plan, prepare
from ci.__main__ import parser
from ci.chapters import Chapter, CourseError, Job, Repository, course_metadata, read_notebook
from ci.pages import build
from ci.plan import packed
from kdlib.experiments.packing import pack_records

JobOf = Callable[..., Job]

CLAIM = """
from IPython.display import display
claim = {"sentence": "It holds", "value": VALUE, "at_least": 1.0, "at_most": None, "unit": ""}
display({"application/vnd.kdlib.claim+json": claim, "text/plain": "It holds"}, raw=True)
"""


def run(repository: Repository, *arguments: str) -> int:
    return commands.run(repository.root, parser().parse_args(arguments))


def git(repository: Repository, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(repository.root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def matrix(
    repository: Repository, capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(repository, "plan", "--profile", "quick", *arguments) == 0
    include: list[dict[str, object]] = json.loads(capsys.readouterr().out)["matrix"]["include"]
    return include


def another_machine(repository: Repository, folder: Path) -> Repository:
    shutil.copytree(repository.root, folder, ignore=shutil.ignore_patterns("_build"))
    return Repository(folder)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A course that was planned for two machines and executed on them; what they hand in is in _build."""
    cells = chapter_cells("Alone", "print('seed', seed)", CLAIM.replace("VALUE", "2.0"))
    repository = make_course(tmp_path_factory.mktemp("planned"))
    write_notebook(repository.book / "01-alone.ipynb", *cells)
    for number, entry in enumerate(plan.plan(repository, "quick", "all", 2, None)["matrix"]["include"]):
        runner = another_machine(repository, tmp_path_factory.mktemp("runner") / str(number))
        earlier = runner.failed("quick", "01-alone")
        execute.write_whole(earlier, b"of a run before this one")
        wanted = ["--chapters", str(entry["chapters"]), "--accelerator", str(entry["accelerator"])]
        assert run(runner, "execute", "--profile", "quick", *wanted) == 0
        assert earlier.exists() == (number != 0), "a chapter that succeeds has not failed any more"
        assert not runner.html.exists()
        shutil.copytree(runner.build, repository.build / "handed-in" / f"executed-{number}")
    return repository


@pytest.fixture
def handed_in(planned: Repository, tmp_path: Path) -> Repository:
    """The same, for one test to assemble."""
    shutil.copytree(planned.root, tmp_path / "course")
    return Repository(tmp_path / "course")


def assembled(repository: Repository) -> int:
    return run(repository, "assemble", "--profile", "quick", str(repository.build / "handed-in"))


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter Book replaced by a page with the outputs' text; test_build has the real one."""

    def pretend(_: Repository, stage: Path, output: Path) -> Path:
        html = output / "html"
        html.mkdir(parents=True)
        for path in stage.glob("*.ipynb"):
            (html / f"{path.stem}.html").write_text(path.read_text())
        (html / "index.html").write_text("all")
        return html

    monkeypatch.setattr(build, "run_jupyter_book", pretend)


def test_plan_execute_assemble(
    handed_in: Repository, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    include = matrix(handed_in, capsys, "--machines", "2")
    assert [(entry["chapters"], entry["accelerator"]) for entry in include] == [("01", "cpu"), ("02", "cpu")]
    assert assembled(handed_in) == 0
    assert "seed 0" in (handed_in.html / "01-alone.html").read_text()
    assert "42" in (handed_in.html / "02-library.html").read_text()
    (archive,) = handed_in.build.glob("course-*.zip")
    digest, name = archive.with_name(f"{archive.name}.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(archive.read_bytes()).hexdigest(), archive.name)
    assert "kd-course/index.html" in zipfile.ZipFile(archive).namelist()
    assert matrix(handed_in, capsys) == [], "nothing is left to execute"


def test_a_runner_that_died_leaves_the_other_chapters_and_is_named(
    handed_in: Repository, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(handed_in.build / "handed-in" / "executed-0")
    assert assembled(handed_in) == 1
    assert "01-alone: the executed notebook was not handed in" in capsys.readouterr().err
    assert "42" in (handed_in.html / "02-library.html").read_text()
    assert "has not been executed" in (handed_in.html / "01-alone.html").read_text()


def test_a_notebook_of_other_sources_is_not_taken(
    handed_in: Repository, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (handed_in.root / "kdlib/__init__.py").write_text("answer = 43\n")
    assert assembled(handed_in) == 1
    said = capsys.readouterr().err
    assert "02-library: the executed notebook is of other sources" in said
    assert "01-alone" not in said


def test_a_claim_that_does_not_hold_is_named(
    handed_in: Repository, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (executed,) = handed_in.build.rglob("executed/quick/01-alone.ipynb")
    text = executed.read_text()
    assert text.count('"value": 2.0') == 1, "as the kernel wrote it"
    executed.write_text(text.replace('"value": 2.0', '"value": 0.5'))
    assert assembled(handed_in) == 1
    expected = "01-alone: the claim 'It holds' has the value 0.5, not at least 1.\n"
    assert capsys.readouterr().err == expected


def test_a_failed_chapter_is_kept_as_far_as_it_got_and_never_taken_in(
    repository: Repository,
    job_of: JobOf,
    tmp_path_factory: pytest.TempPathFactory,
    no_pages: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has the key of a good one, and is not taken from its own folder, nor from that of the good ones."""
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", "print('first')", "1 / 0"))
    runner = another_machine(repository, tmp_path_factory.mktemp("runner") / "course")
    assert run(runner, "execute", "--profile", "quick", "--chapters", "01") == 1
    kept = runner.failed("quick", "01-alone")
    good = runner.executed("quick", "01-alone")
    assert "first" in json.dumps([cell.get("outputs") for cell in read_notebook(kept)["cells"]])
    assert course_metadata(read_notebook(kept))["key"] == job_of("01").key
    assert not good.exists()
    good.parent.mkdir(parents=True)
    for move, why in ((kept, "was not handed in"), (good, "ended in an error")):
        kept.rename(move)
        kept = move
        assert run(repository, "assemble", "--profile", "quick", str(runner.build)) == 1
        assert f"01-alone: the executed notebook {why}" in capsys.readouterr().err
        assert not job_of("01").output.exists()
        assert not repository.html.exists(), "with no chapter at all there are no pages to publish"


def test_a_chapter_over_its_budget_is_stopped_on_a_runner(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = chapter_cells("Alone", "import time\nfor _ in range(8):\n    time.sleep(0.5)", "time.sleep(60)")
    write_notebook(repository.book / "01-alone.ipynb", *cells)
    listing = repository.book / "chapters.yml"
    listing.write_text(listing.read_text().replace("quick: 60", "quick: 8", 1))
    assert run(repository, "execute", "--profile", "quick", "--chapters", "01") == 1
    said = capsys.readouterr().err
    assert "code cell 3 (step-2)" in said
    assert "The chapter was stopped after 8 s, in this cell." in said


def test_a_gpu_that_is_required_and_not_there(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_device", lambda: "CPU")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert run(repository, "execute", "--accelerator", "cuda") == 1
    expected = (
        "These chapters need a GPU, and torch sees none: there is no nvidia-smi: install NVIDIA's driver"
    )
    assert capsys.readouterr().err.startswith(expected)
    assert (repository.build / "records.zip").is_file(), "the records are packed after a failure too"


@pytest.mark.parametrize(
    ("smi", "torch", "sentence"),
    [
        ("echo No devices were found", "", "`nvidia-smi --list-gpus` says 'No devices were found': look at"),
        ("exit 9", "", "`nvidia-smi --list-gpus` says 'nothing': look at the driver"),
        ("echo 'GPU 0: H200'", "None 2.9+cpu", "torch 2.9+cpu is built without CUDA: install that of"),
        ("echo 'GPU 0: H200'", "13.0 2.9", "torch was built for CUDA 13.0, which needs a newer driver"),
    ],
)
def test_why_torch_sees_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smi: str, torch: str, sentence: str
) -> None:
    for name, text in (("nvidia-smi", smi), ("python", f"echo {torch}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    if "No devices" in smi:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\nexit 6\n")
    assert machine.why_no_gpu().startswith(sentence)


def test_the_parts_of_a_divided_gpu_count_and_it_does_not() -> None:
    lines = [
        "GPU 0: NVIDIA H200 (UUID: GPU-1)",
        "  MIG 3g.71gb     Device  0: (UUID: MIG-a)",
        "  MIG 3g.71gb     Device  1: (UUID: MIG-b)",
        "GPU 1: NVIDIA H200 (UUID: GPU-2)",
        "GPU 2: NVIDIA H200 (UUID: GPU-3)",
        "  MIG 7g.141gb    Device  0: (UUID: MIG-c)",
    ]
    assert list(machine.listed_gpus(lines)) == ["MIG-a", "MIG-b", "1", "MIG-c"]
    assert list(machine.listed_gpus([])) == []


def test_gpu_hours_are_kept_to_and_the_shortest_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job("05", 7200, "cuda"), job("06", 60, "cuda"), job("01", 90000), job("07", 3600, "cuda")]
    assert [one.chapter.slug for one in plan.within(jobs, 2)] == ["06", "07", "01"]
    assert [one.chapter.slug for one in plan.within(jobs, 0)] == ["01"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "data: {quick: [bees]}",
            "02-library needs the data set bees, which is not here: the server is away\n",
        ),
        (
            "runs: {quick: [a/*]}",
            "02-library reads the runs a/*, which are not all there: the server is away\n",
        ),
    ],
)
def test_a_chapter_without_what_it_needs_is_named_and_the_others_are_executed(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    sentence: str,
) -> None:
    (repository.root / "kdlib/data").mkdir()
    (repository.root / "kdlib/data/datasets.toml").write_text("[bees]\n")
    listing = repository.book / "chapters.yml"
    listing.write_text(f"{listing.read_text()}  {line}\n")
    asked: list[tuple[str, ...]] = []

    def failure_of(_: Repository, *words: str) -> str:
        asked.append(words)
        return "the server is away"

    monkeypatch.setattr(prepare, "data_here", lambda _: set())
    monkeypatch.setattr(prepare, "failure_of", failure_of)
    assert run(repository, "execute", "--profile", "quick") == 1
    assert sentence in capsys.readouterr().err
    assert [words[:2] for words in asked] in ([("data", "get")], [("run", "a/*")])
    assert [path.stem for path in repository.executed("quick", "").parent.iterdir()] == ["01-alone"]


def keep(repository: Repository, machine: str, **records: str) -> None:
    """What a machine would hand in of records."""
    packed = {
        f"made/full/{label}-seed0.json": record_text(text, label).encode() for label, text in records.items()
    }
    pack_records(packed, repository.build / "handed-in" / machine / "records.zip")


def test_records_of_two_machines_meet_and_one_that_differs_stays_as_it_was(
    handed_in: Repository, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    results = handed_in.root / "data" / "results" / "made" / "full"
    results.mkdir(parents=True)
    (results / "both-seed0.json").write_text(record_text("of before", "both"))
    keep(handed_in, "a", both="1", one="1", same="1")
    keep(handed_in, "b", both="2", other="2", same="1")
    assert assembled(handed_in) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("data/results/made/full/both-seed0.json stays as it was:")
    kept = [json.loads(path.read_text()) for path in results.iterdir()]
    found = {record["label"]: record["settings"]["student"] for record in kept}
    assert found == {"both": "of before", "one": "1", "other": "2", "same": "1"}


def test_what_was_cut_short_is_named_and_the_rest_is_taken(
    handed_in: Repository, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(handed_in, "a", one="1")
    keep(handed_in, "b", other="2")
    file = handed_in.build / "handed-in" / "b" / "records.zip"
    file.write_bytes(file.read_bytes()[:-30])
    (notebook,) = handed_in.build.rglob("executed/quick/01-alone.ipynb")
    notebook.write_bytes(notebook.read_bytes()[:-30])
    assert assembled(handed_in) == 1
    said = capsys.readouterr().err
    assert f"{file} cannot be used, and no record of it was taken" in said
    assert f"01-alone: the executed notebook was cut short or damaged ({notebook}); execute it in" in said
    assert [path.stem for path in (handed_in.root / "data/results/made/full").iterdir()] == ["one-seed0"]
    assert "42" in (handed_in.html / "02-library.html").read_text()


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two GPUs that nothing can run on, which is enough to see who would have been given which."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'GPU 0: made up'\necho 'GPU 1: made up'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for module in (machine, execute):
        monkeypatch.setattr(module, "find_device", lambda: "made up")


def test_the_gpus_are_all_that_are_there_or_those_that_are_named(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert machine.gpus() == ["3", "5"]


def test_each_gpu_has_one_kernel_at_a_time(
    repository: Repository, job_of: JobOf, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    shows = "import os, time\ntime.sleep(2)\nprint('on GPU', os.environ['CUDA_VISIBLE_DEVICES'])"
    for slug in ("01-alone", "02-library"):
        write_notebook(repository.book / f"{slug}.ipynb", *chapter_cells(slug, shows))
    jobs = [job_of("01"), job_of("02")]
    assert [outcome.failure for outcome in execute.execute(repository, jobs)] == [None, None]
    printed = {json.dumps(read_notebook(job.output)).partition("on GPU ")[2][0] for job in jobs}
    assert printed == {"3", "5"}


def test_only_what_a_change_touches_is_planned(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "before")
    base = git(repository, "rev-parse", "HEAD")
    assert matrix(repository, capsys, "--since", base) == []
    (repository.root / "README.md").write_text("reworded")
    (repository.root / "kdlib/__init__.py").write_text("answer = 43\n")
    assert [entry["chapters"] for entry in matrix(repository, capsys, "--since", base)] == ["02"]
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", "print(1)"))
    assert [entry["chapters"] for entry in matrix(repository, capsys, "--since", base)] == ["01", "02"]
    assert git(repository, "worktree", "list").count("\n") == 0, "no worktree is left"


def test_requests_that_cannot_be_met(repository: Repository) -> None:
    git(repository, "init", "--quiet")
    with pytest.raises(CourseError, match="The sources of 'nowhere' cannot be had"):
        plan.plan(repository, "quick", "all", 1, "nowhere")
    with pytest.raises(CourseError, match="0 machines cannot execute anything"):
        plan.plan(repository, "quick", "all", 0, None)
    with pytest.raises(CourseError, match="nan GPU hours are no limit"):
        plan.plan(repository, "quick", "all", 1, None, float("nan"))


def job(slug: str, budget: float, accelerator: str = "cpu", runs: Sequence[str] = ()) -> Job:
    """A job that was never executed, so that its budget is what is expected."""
    wants = {"full": accelerator}
    chapter = Chapter(slug, slug, {"full": budget}, {}, wants, Path(slug), {}, {"full": [*runs]})
    return Job(chapter, "full", {}, {}, "key", Path("/nowhere") / slug)


def test_packs_are_even_and_of_one_accelerator() -> None:
    jobs = [job("01", 60), job("02", 50), job("03", 40), job("04", 30), job("05", 3600, "cuda")]
    packs = packed(jobs, 2)
    assert [(pack.accelerator, pack.seconds) for pack in packs] == [("cpu", 90), ("cpu", 90), ("cuda", 3600)]
    assert packs[2].entry() == {"chapters": "05", "accelerator": "cuda", "minutes": 80}
    assert packed([job("09", 60, "cuda", ["a/*"])], 2)[0].minutes == 20 + 1 + plan.MINUTES_OF_RUNS
    assert sorted(one.chapter.slug for pack in packs for one in pack.jobs) == ["01", "02", "03", "04", "05"]
