"""The workflows call scripts only, and the scripts do on this machine what they do on a runner."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_up_course import ROOT, copy_sources, make_course

from ci.chapters import read_notebook
from ci.pins import PYTHON

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands_of(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job.get("steps", []) if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_is_a_make_target_or_a_script(workflow: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = commands_of(workflow)
    assert commands, "a workflow that runs nothing of ours, or a test that looks in the wrong place"
    for command in commands:
        first, *rest = command.split()
        if first == "make":
            assert set(rest) <= targets, command
        else:
            script = ROOT / first
            assert (script.is_file(), os.access(script, os.X_OK), rest) == (True, True, []), command


def test_every_machine_has_the_python_that_the_pins_are_for() -> None:
    versions = [
        step["with"]["python-version"]
        for workflow in WORKFLOWS
        for name, job in yaml.safe_load(workflow.read_text())["jobs"].items()
        for step in job.get("steps", [])
        if "python-version" in step.get("with", {}) and name != "newest"  # which has no pins
    ]
    for image in (".devcontainer/devcontainer.json", "ci/gpu/Dockerfile"):
        versions += re.findall(r"\bpython:([\d.]+)", (ROOT / image).read_text())
    assert len(versions) >= 5
    assert set(versions) == {PYTHON}


def test_an_action_of_others_is_pinned_by_its_commit() -> None:
    used = [line for workflow in WORKFLOWS for line in workflow.read_text().splitlines() if "uses:" in line]
    assert len(used) > 20, "a test that looks in the wrong place"
    for line in used:
        name = line.partition("uses:")[2].split()[0]
        assert re.fullmatch(r"actions/[\w/-]+@v\d+|\./[\w./-]+|[\w/-]+@[0-9a-f]{40}", name), name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_code_of_a_fork_gets_no_secret_and_no_runner_of_ours(workflow: Path) -> None:
    text = workflow.read_text()
    assert "secrets." not in text
    assert "pull_request_target" not in text
    if "self-hosted" in text:
        assert "github.event.pull_request.head.repo.full_name == github.repository" in text


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkout of the sources as they are here, but of the book: that is the made-up one."""
    folder = copy_sources(tmp_path_factory.mktemp("checkout") / "course")
    made_up = make_course(tmp_path_factory.mktemp("made-up")).root
    shutil.rmtree(folder / "book")
    shutil.copytree(made_up / "book", folder / "book")
    shutil.copy2(made_up / "_config.yml", folder)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as it is"]):
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(folder), *identity, *command], check=True)
    return folder


def call(checkout: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PROFILE": "quick", **variables}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment.pop("KDLIB_RESULTS", None)
    return subprocess.run(
        [f"ci/gpu/{script}.sh"], cwd=checkout, env=environment, capture_output=True, text=True
    )


def keep_two_records(checkout: Path) -> list[Path]:
    """Two of the course's records, in their place in the checkout."""
    records = []
    for one in sorted((ROOT / "data" / "results").glob("01-*/short/*.json"))[:2]:
        record = checkout / one.relative_to(ROOT)
        record.parent.mkdir(parents=True, exist_ok=True)
        records.append(Path(shutil.copy2(one, record)))
    return records


@pytest.mark.system
def test_the_scripts_from_plan_to_pages(checkout: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    planned = call(checkout, "plan", CHAPTERS="01", GITHUB_OUTPUT=str(output))
    assert planned.returncode == 0, planned.stderr
    (entry,) = json.loads(output.read_text().removeprefix("plan="))["matrix"]["include"]
    assert (entry["chapters"], entry["accelerator"]) == ("01", "cpu")
    unchanged = call(checkout, "plan", BASE="HEAD", GITHUB_OUTPUT=str(output))
    nothing = {"matrix": {"include": []}, "chapters": "none"}
    assert json.loads(unchanged.stdout.splitlines()[-1].removeprefix("plan=")) == nothing

    gone, other = keep_two_records(checkout)
    executed = call(checkout, "execute", CHAPTERS=entry["chapters"], ACCELERATOR=entry["accelerator"])
    assert executed.returncode == 0, executed.stderr

    build = checkout / "_build"
    handed_in = build / "handed-in" / "executed-0"
    handed_in.mkdir(parents=True)
    for name in ("executed", "records.zip"):
        (build / name).rename(handed_in / name)
    gone.unlink()
    other.unlink()
    assembled = call(checkout, "assemble")
    assert assembled.returncode == 1, "the other chapter was not executed"
    assert "02-library: the executed notebook was not handed in" in assembled.stderr
    assert "01-alone" not in assembled.stderr
    assert gone.is_file(), "the records are back"
    assert other.is_file()
    assert (build / "records.zip").is_file(), "and go on to be committed"
    assert len(list(build.glob("course-*.zip"))) == 1
    commit = read_notebook(build / "executed/quick/01-alone.ipynb")["metadata"]["course"]["commit"]
    for page, text in (
        ("01-alone", "seed 0"),
        ("02-library", "This chapter has not been executed"),
        ("status", commit),
        ("claims", "Alone"),
        ("records", gone.parent.parent.name),
    ):
        assert text in (build / "html" / f"{page}.html").read_text(encoding="utf-8"), page


@pytest.mark.system
def test_a_runner_without_the_gpu_that_is_needed(checkout: Path) -> None:
    (checkout / "_build" / "records.zip").unlink(missing_ok=True)
    keep_two_records(checkout)
    done = call(checkout, "execute", CHAPTERS="01", ACCELERATOR="cuda")
    assert done.returncode == 1
    assert "need a GPU, and torch sees none" in done.stderr
    assert (checkout / "_build" / "records.zip").is_file(), "the records are packed after a failure too"
