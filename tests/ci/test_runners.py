"""From a plan over several machines to pages, on this machine, with a CPU in the GPU's place."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_course import chapter_cells, write_notebook

from ci import assemble, commands, execute, machine, pages, plan
from ci.__main__ import parser
from ci.chapters import Chapter, CourseError, Job, Repository, read_notebook
from ci.plan import packed

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
    include: list[dict[str, object]] = json.loads(capsys.readouterr().out)["include"]
    return include


def another_machine(repository: Repository, folder: Path) -> Repository:
    shutil.copytree(repository.root, folder, ignore=shutil.ignore_patterns("_build"))
    return Repository(folder)


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter Book replaced by a page with the outputs' text; test_pages has the real one."""

    def pretend(_: Repository, stage: Path, output: Path) -> Path:
        html = output / "html"
        html.mkdir(parents=True)
        for path in stage.glob("*.ipynb"):
            (html / f"{path.stem}.html").write_text(path.read_text())
        (html / "index.html").write_text("all")
        return html

    monkeypatch.setattr(pages, "run_jupyter_book", pretend)


def test_plan_execute_assemble(
    repository: Repository,
    tmp_path_factory: pytest.TempPathFactory,
    no_pages: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = chapter_cells("Alone", "print('seed', seed)", CLAIM.replace("VALUE", "2.0"))
    write_notebook(repository.book / "01-alone.ipynb", *cells)
    include = matrix(repository, capsys, "--machines", "2")
    assert [(entry["chapters"], entry["accelerator"]) for entry in include] == [("01", "cpu"), ("02", "cpu")]
    handed_in = []
    for number, entry in enumerate(include):
        runner = another_machine(repository, tmp_path_factory.mktemp("runner") / str(number))
        wanted = ["--chapters", str(entry["chapters"]), "--accelerator", str(entry["accelerator"])]
        assert run(runner, "execute", "--profile", "quick", *wanted) == 0
        assert not runner.html.exists()
        handed_in.append(str(runner.build))
    assert run(repository, "assemble", "--profile", "quick", *handed_in) == 0
    assert "seed 0" in (repository.html / "01-alone.html").read_text()
    assert "42" in (repository.html / "02-library.html").read_text()
    (archive,) = repository.build.glob("course-*.zip")
    digest, name = archive.with_name(f"{archive.name}.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(archive.read_bytes()).hexdigest(), archive.name)
    assert "index.html" in zipfile.ZipFile(archive).namelist()
    assert matrix(repository, capsys) == [], "nothing is left to execute"


def test_a_runner_that_died_leaves_the_other_chapters_and_is_named(
    repository: Repository, tmp_path: Path, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = another_machine(repository, tmp_path.parent / f"{tmp_path.name}-runner")
    assert run(runner, "execute", "--profile", "quick", "--chapters", "02") == 0
    assert run(repository, "assemble", "--profile", "quick", str(runner.build)) == 1
    assert "01-alone: the executed notebook was not handed in" in capsys.readouterr().err
    assert "42" in (repository.html / "02-library.html").read_text()
    assert "has not been executed" in (repository.html / "01-alone.html").read_text()


def test_a_notebook_of_other_sources_is_not_taken(
    repository: Repository, tmp_path: Path, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = another_machine(repository, tmp_path.parent / f"{tmp_path.name}-runner")
    assert run(runner, "execute", "--profile", "quick") == 0
    (repository.root / "kdlib/__init__.py").write_text("answer = 43\n")
    assert run(repository, "assemble", "--profile", "quick", str(runner.build)) == 1
    said = capsys.readouterr().err
    assert "02-library: the executed notebook is of other sources" in said
    assert "01-alone" not in said


def test_a_claim_that_does_not_hold_is_named(repository: Repository, job_of: JobOf) -> None:
    source = CLAIM.replace("VALUE", "0.5")
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", source))
    assert execute.execute(repository, [job_of("01")])[0].failure is None
    (fault,) = assemble.take_in(job_of("01"), [])
    assert fault == "01-alone: the claim 'It holds' has the value 0.5, not at least 1."


def test_a_failed_chapter_is_kept_as_far_as_it_got(repository: Repository, job_of: JobOf) -> None:
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", "print('first')", "1 / 0"))
    assert run(repository, "execute", "--profile", "quick", "--chapters", "01") == 1
    kept = repository.failed("quick", "01-alone")
    texts = [
        output.get("text", "") for cell in read_notebook(kept)["cells"] for output in cell.get("outputs", [])
    ]
    assert "first" in "".join("".join(text) for text in texts)
    assert not job_of("01").output.exists()
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", "print('first')"))
    assert run(repository, "execute", "--profile", "quick", "--chapters", "01") == 0
    assert not kept.exists()


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
    assert run(repository, "execute", "--accelerator", "cuda") == 1
    assert "need a GPU, and torch sees none" in capsys.readouterr().err


@pytest.mark.parametrize("named", [None, "3,5"])
def test_each_gpu_has_one_kernel_at_a_time(
    repository: Repository, job_of: JobOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str | None
) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'GPU 0: made up'\necho 'GPU 1: made up'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    for module in (machine, execute):
        monkeypatch.setattr(module, "find_device", lambda: "made up")
    shows = "import os, time\ntime.sleep(2)\nprint('on GPU', os.environ['CUDA_VISIBLE_DEVICES'])"
    for slug in ("01-alone", "02-library"):
        write_notebook(repository.book / f"{slug}.ipynb", *chapter_cells(slug, shows))
    jobs = [job_of("01"), job_of("02")]
    assert [outcome.failure for outcome in execute.execute(repository, jobs)] == [None, None]
    printed = {json.dumps(read_notebook(job.output)).partition("on GPU ")[2][0] for job in jobs}
    assert printed == set((named or "0,1").split(","))


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
    listing = repository.book / "chapters.yml"
    listing.write_text(listing.read_text() + "  accelerator: {full: tpu}\n")
    with pytest.raises(CourseError, match=r"02-library asks for {'full': 'tpu'}: give cuda or cpu\."):
        plan.plan(repository, "quick", "all", 1, None)


def job(slug: str, budget: float, accelerator: str = "cpu") -> Job:
    """A job that was never executed, so that its budget is what is expected."""
    wants = {"full": accelerator}
    chapter = Chapter(slug, slug, {"full": budget}, {}, wants, Path(slug))
    return Job(chapter, "full", {}, {}, "key", Path("/nowhere") / slug)


def test_packs_are_even_and_of_one_accelerator() -> None:
    jobs = [job("01", 60), job("02", 50), job("03", 40), job("04", 30), job("05", 3600, "cuda")]
    packs = packed(jobs, 2)
    assert [(pack.accelerator, pack.seconds) for pack in packs] == [("cpu", 90), ("cpu", 90), ("cuda", 3600)]
    assert packs[2].entry() == {"chapters": "05", "accelerator": "cuda", "minutes": 80}
    assert sorted(one.chapter.slug for pack in packs for one in pack.jobs) == ["01", "02", "03", "04", "05"]
