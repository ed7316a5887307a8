"""A rehearsal of the GPU workflows: the real YAML, scripts, chapters.yml and keys, on machines made up here.

The chapters are tiny notebooks and the recipes tiny runs, so that nothing takes long; Jupyter Book is a few
lines that write what a page would show. Everything else is what a runner does. `pytest -s` shows the table of
what came of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_course import ROOT, code, copy_sources, markdown, record_text, write_notebook
from workflow_runner import Event, Machine, Service

from ci.notebooks import SETUP

SLUGS = list(yaml.safe_load((ROOT / "book" / "chapters.yml").read_text()))
# In place of each chapter: what it says, and of the first one a record, as the real ones leave some.
CHAPTER = """
import json, os, sys, time
from pathlib import Path

if dying := os.environ.get("DYING"):
    Path(dying).touch()
    time.sleep(60)
print("chapter", chapter, "in", profile)
"""
RECORD = f"""
if profile != "quick":
    place = Path("../data/results/01-why-distil") / profile / "made-seed0.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text({record_text("a student")!r})
"""
FAMILY = """
title = "Made for the rehearsal"
source = "none"
seeds = [0]

[base]
data = {name = "digits", train_images = 60}
student = {name = "convnet", options = {width = 4}}
terms = [{kind = "HardLabels"}]
training = {epochs = 1, batch_size = 16, learning_rate = 0.1, weight_decay = 5e-4, optimizer = "SGD"}
"""
RECIPES = {
    "cifar": ["methods/cifar10/20-20/st", "fsp-first/cifar10"],
    "lab": ["scratch"],
    "caltech": ["pretrained"],
    "hymenoptera": ["alpha/0"],
}
# Other patch levels of Python, and a GPU, for whoever asks.
SITE = """
import os, sys
from collections import namedtuple

python = os.environ.get("MADE_UP_PYTHON")
if python:
    kind = namedtuple("version_info", ["major", "minor", "micro", "releaselevel", "serial"])
    sys.version_info = kind(*sys.version_info[:2], int(python), "final", 0)
if os.environ.get("MADE_UP_GPU") and any("torch.cuda.get_device_name()" in word for word in sys.orig_argv):
    print(os.environ["MADE_UP_GPU"])
    sys.stdout.flush()
    os._exit(0)
"""
JUPYTER_BOOK = """
import json, sys
from pathlib import Path

def main():
    stage, target = Path(sys.argv[2]), Path(sys.argv[sys.argv.index("--path-output") + 1]) / "_build" / "html"
    target.mkdir(parents=True)
    (target / "index.html").write_text("the course")
    for path in stage.glob("*.ipynb"):
        (target / f"{path.stem}.html").write_text(path.read_text())
"""
DOCKER = """#!/bin/sh
# In place of docker: an image is a file.
set -e
case "$1" in
  login) cat > /dev/null ;;
  manifest) test -f "$IMAGES/$(echo "$3" | tr / +)" ;;
  build) test -f "$3"; echo "$5" > "$IMAGES/built" ;;
  run) test "$3" = "$(cat "$IMAGES/built")" ;;
  push) touch "$IMAGES/$(echo "$2" | tr / +)" ;;
esac
"""
GH = """#!/bin/sh
# In place of gh: what it was asked, and the jobs that GitHub would list.
echo "$*" >> "$GITHUB/asked"
case "$1" in api) cat "$GITHUB/jobs.json" ;; esac
"""
NVIDIA_SMI = "#!/bin/sh\necho 'GPU 0: Made-up H200 (UUID: GPU-1)'\n"


class Pool:
    """A course with its repository, and the machines that its workflows run on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = Service(folder / "github", self.machine_for)
        self.service.variables = {"GPU_RUNNER": '["self-hosted", "gpu"]', "GPU_MACHINES": "2"}
        self.work = copy_sources(folder / "author")
        self.rows: list[tuple[str, ...]] = []
        self._published = 0
        (folder / "github" / "images").mkdir(parents=True)
        self._stand_ins()
        self._course()
        self.service.remote.mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet", "--bare", str(self.service.remote)], check=True)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", str(self.service.remote))
        self.push("as it is")

    def git(self, *words: str) -> None:
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(self.work), *identity, *words], check=True, capture_output=True)

    def push(self, what: str, to: str = "refs/heads/main") -> None:
        """Commit everything, and let the service have it."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", what)
        self.git("push", "--quiet", "origin", f"HEAD:{to}")

    def edit(self, slug: str, identity: str, source: str) -> None:
        """Change one cell of a chapter."""
        path = self.work / "book" / f"{slug}.ipynb"
        notebook = json.loads(path.read_text())
        next(cell for cell in notebook["cells"] if cell["id"] == identity)["source"] = source
        path.write_text(json.dumps(notebook))

    def _stand_ins(self) -> None:
        programs = {"docker": DOCKER, "gh": GH, "python3": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'}
        for place, texts in {"bin": programs, "gpu-bin": {"nvidia-smi": NVIDIA_SMI}}.items():
            for name, text in texts.items():
                file = self.folder / place / name
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
                file.chmod(file.stat().st_mode | stat.S_IXUSR)
        cli = self.folder / "site" / "jupyter_book" / "cli"
        cli.mkdir(parents=True)
        (self.folder / "site" / "sitecustomize.py").write_text(SITE)
        (cli.parent / "__init__.py").touch()
        (cli / "__init__.py").touch()
        (cli / "main.py").write_text(JUPYTER_BOOK)

    def _course(self) -> None:
        """Tiny chapters, recipes and data sets in place of the real ones; chapters.yml stays."""
        for slug in SLUGS:
            parameters = f'profile = "quick"\nseed = 0\nn_seeds = 2\ndevice = "auto"\nchapter = "{slug}"'
            imports = "from kdlib.schemes import *\n" if slug.startswith("13") else ""
            write_notebook(
                self.work / "book" / f"{slug}.ipynb",
                markdown("title", f"# Chapter {slug[:2]}"),
                code("setup", SETUP, "setup"),
                code("parameters", parameters, "parameters"),
                code("imports", f"if profile == 'never':\n    {imports or 'pass'}"),
                code("chapter", CHAPTER),
                code("record", RECORD if slug.startswith("01") else "pass"),
            )
        families = self.work / "kdlib" / "experiments" / "recipes" / "families"
        for family, names in RECIPES.items():
            text = FAMILY + "".join(f'[singles."{name}"]\n' for name in names)
            (families / f"{family}.toml").write_text(text)
        shutil.rmtree(self.work / "book" / "methods")  # their costs are those of the real recipes
        catalogue = self.work / "kdlib" / "data" / "datasets.toml"
        entries = catalogue.read_text().split("\n[")
        catalogue.write_text("\n[".join([entries[0], *map(self._small_data, entries[1:])]))

    def _small_data(self, entry: str) -> str:
        """An entry of the catalogue whose archive is a small file of this machine."""
        name = entry.partition("]")[0]
        folder = next(line.split('"')[1] for line in entry.splitlines() if line.startswith("folder"))
        inside = self.folder / "data" / name / Path(folder).name
        inside.mkdir(parents=True)
        (inside / "picture").write_text(name)
        archive = self.folder / "data" / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as opened:
            opened.add(inside, inside.name)
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        kept = [line for line in entry.splitlines() if line.partition(" ")[0] not in ("url", "md5", "inner")]
        return "\n".join([*kept, f'url = "{archive.as_uri()}"', f'md5 = "{md5}"', ""])

    def machine_for(self, labels: list[str], number: int) -> Machine:
        """A new machine of GitHub's, or one of the two of ours, which stay."""
        programs = f"{self.folder / 'bin'}:/usr/bin:/bin"
        variables = {
            "PATH": programs, "PYTHONPATH": str(self.folder / "site"), "OMP_NUM_THREADS": "1",
            "IMAGES": str(self.service.folder / "images"), "GITHUB": str(self.service.folder),
        }  # fmt: skip
        if labels == ["ubuntu-24.04"]:
            folder = self.folder / "hosted"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            return Machine(folder, variables | {"MADE_UP_PYTHON": "1"})
        assert labels == ["self-hosted", "gpu"]
        folder = self.folder / f"gpu-{number % 2}"
        folder.mkdir(exist_ok=True)
        ours = {
            "MADE_UP_PYTHON": "99",
            "MADE_UP_GPU": "Made-up H200",
            "PATH": f"{self.folder / 'gpu-bin'}:{programs}",
        }
        return Machine(folder, variables | ours)

    # What came of it.

    def executed(self, run: int) -> dict[str, str]:
        """The numbers of the chapters that a run executed, each with its result, from what was handed in."""
        found = {}
        handed_in = sorted(self.service.artefacts(run).glob("*/*/*/*.ipynb"))
        for path in handed_in:
            found[path.stem[:2]] = "good" if path.parent.parent.name == "executed" else "failed"
        return found

    def results(self, run: int) -> dict[str, str]:
        """The jobs by name and how they ended; those that were skipped are left out."""
        _, _, jobs = self.service.runs[run]
        return {name: job.result for name, job in jobs.items() if job.result != "skipped"}

    def page(self, number: str) -> str:
        """A public page as a reader finds it."""
        (path,) = self.service.public[-1].glob(f"{number}-*.html")
        return path.read_text()

    def shared(self, number: str) -> str:
        """A chapter in the branch that shows outputs, or nothing before there is one."""
        if "executed" not in self.service.git("branch", "--list", "executed"):
            return ""
        (name,) = [slug for slug in SLUGS if slug.startswith(number)]
        return self.service.git("show", f"executed:book/{name}.ipynb")

    def accepted(self, profile: str = "full") -> set[str]:
        """The numbers of the chapters in the newest cache of main."""
        caches = [path for _, ref, path in self.service.caches if ref == "refs/heads/main"]
        return {path.stem[:2] for cache in caches[-1:] for path in (cache / profile).glob("*.ipynb")}

    def records(self, run: int) -> list[str]:
        """The records in what a run leaves to be committed."""
        (file,) = sorted(self.service.artefacts(run).glob("course-*/records.zip"))[-1:]
        return sorted(set(zipfile.ZipFile(file).namelist()) - {"SHA256SUMS"})

    def said(self, run: int) -> str:
        _, _, jobs = self.service.runs[run]
        return "\n".join(job.said for job in jobs.values())

    def older(self) -> list[str]:
        """The numbers of the chapters whose public page says that its results are of earlier sources."""
        return [number for number in EVERY if STALE in self.page(number)]

    def note(self, situation: str, run: int) -> None:
        """A row of the table: what ran, what is public, what is kept."""
        results = self.results(run)
        parts = [name for name in results if re.fullmatch(r"execute \d+", name)]
        jobs = [name for name in results if "/" not in name and name not in ("image", *parts)]
        shown = [
            f"{name}{f' ×{len(parts)}' if name == 'execute' else ''}{MARK[results[name]]}" for name in jobs
        ]
        executed = [f"{number}{MARK[how]}" for number, how in self.executed(run).items()]
        public = "not touched" if len(self.service.public) == self._published else "all are current"
        if public != "not touched" and self.older():
            public = f"all, {', '.join(self.older())} with its earlier results"
        self._published = len(self.service.public)
        handed_on = list(self.service.artefacts(run).glob("course-*/records.zip"))
        kept = f"{len(self.accepted())} chapters, {len(self.records(run)) if handed_on else 0} new records"
        row = (situation, ", ".join(shown), " ".join(sorted(executed)), public, kept)
        self.rows.append(tuple(cell or "none" for cell in row))


MARK = {"success": "", "failure": " failed", "good": "", "failed": " failed"}
STALE = "are from an earlier execution"
EVERY = [slug[:2] for slug in SLUGS]
GPU = ["09", "10", "11", "12"]


def pull_request(action: str, labels: list[str], label: str = "", fork: bool = False) -> dict[str, Any]:
    owner = "stranger/course" if fork else "course/course"
    return {
        "action": action,
        "label": {"name": label},
        "pull_request": {
            "labels": [{"name": each} for each in labels],
            "head": {"repo": {"full_name": owner}},
            "base": {"sha": ""},
        },
    }


@pytest.mark.system
def test_a_pool_of_runners(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    service = pool.service

    # Before anything was executed, nothing is published, in one sentence.
    run = service.start("pages.yml", Event("push"))
    assert pool.results(run)["build"] == "failure"
    assert "No chapter was ever executed here, so there are no pages" in pool.said(run)
    assert not pool.shared("01")
    assert service.public == []
    pool.note("push before the first run", run)

    # The first weekly run: everything, on CPUs and GPUs.
    run = service.start("gpu.yml", Event("schedule"))
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert pool.executed(run) == dict.fromkeys(EVERY, "good")
    plan = json.loads(service.runs[run][2]["plan"].outputs["plan"])
    by_kind = {
        kind: [e["chapters"] for e in plan["matrix"]["include"] if e["accelerator"] == kind]
        for kind in ("cpu", "cuda")
    }
    assert sorted(" ".join(by_kind["cuda"]).split()) == GPU
    assert len(by_kind["cpu"]) == len(by_kind["cuda"]) == 2
    assert pool.accepted() == set(EVERY)
    assert all("chapter" in pool.page(number) and STALE not in pool.page(number) for number in EVERY)
    made = pool.records(run)
    assert "01-why-distil/full/made-seed0.json" in made, "made on a CPU"
    assert "cifar/full/cifar-methods-cifar10-20-20-st-seed0.json" in made, "made on a GPU"
    course = {
        path.stem[:2]: json.loads(path.read_text())["metadata"]["course"]
        for path in service.caches[-1][2].rglob("*.ipynb")
    }
    assert {course[number]["device"] for number in GPU} == {"Made-up H200"}
    assert {course[number]["versions"]["python"][-3:] for number in GPU} == {".99"}
    assert {number for number in EVERY if course[number]["device"] == "CPU"} == {*EVERY} - {*GPU}
    assert not any("+" in noted["commit"] for noted in course.values()), (
        "the tree looks as it was checked out"
    )
    for machine in (tmp_path / "gpu-0", tmp_path / "gpu-1"):
        assert list((machine / "volume" / "data").iterdir()), "data outlive the checkout"
        assert list((machine / "volume" / "runs").iterdir()), "and so do runs"
    pool.note("first weekly run", run)

    # A second one has nothing to execute, and publishes all the same.
    before = len(service.public)
    run = service.start("gpu.yml", Event("schedule"))
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert pool.executed(run) == {}
    assert "execute" not in pool.results(run)
    assert len(service.public) == before + 1
    pool.note("second weekly run", run)

    # Prose.
    pool.edit(SLUGS[1], "title", "# Chapter 02, in better words")
    pool.push("prose")
    run = service.start("pages.yml", Event("push"))
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert "in better words" in pool.page("02")
    shared = pool.shared("02")
    assert "in better words" in shared
    assert f"chapter {SLUGS[1]} in full" in shared, "its output"
    assert "made with these values" in shared
    assert service.git("rev-parse", "executed~1") == service.git("rev-parse", "main")
    assert f"@{service.git('rev-parse', 'main')}" in shared, "the set-up cell installs what the page is of"
    assert STALE not in pool.page("02")
    pool.note("prose is pushed", run)

    # kdlib: the page says that its results are older, until the next run, which executes that chapter alone.
    schemes = pool.work / "kdlib" / "schemes.py"
    schemes.write_text(schemes.read_text() + "\nADDED = 1\n")
    pool.push("kdlib")
    run = service.start("pages.yml", Event("push"))
    assert pool.older() == ["13"]
    pool.note("a change in kdlib is pushed", run)

    # A dispatch of one chapter that is current, while another is not: nothing to do, and nothing is wrong.
    run = service.start("gpu.yml", Event("workflow_dispatch", inputs={"profile": "full", "chapters": "05"}))
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert pool.executed(run) == {}
    assert STALE in pool.page("13")
    pool.note("dispatch of 05, current", run)
    run = service.start("gpu.yml", Event("workflow_dispatch", inputs={"profile": "full", "chapters": "13"}))
    assert pool.executed(run) == {"13": "good"}
    assert STALE not in pool.page("13")
    pool.note("dispatch of 13", run)

    # Quick is for looking; what is public stays as it is.
    run = service.start(
        "gpu.yml", Event("workflow_dispatch", inputs={"profile": "quick", "chapters": "02 03"})
    )
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert pool.executed(run) == {"02": "good", "03": "good"}
    assert "in quick" not in pool.page("02")
    assert pool.accepted() == set(EVERY)
    pool.note("dispatch of quick, 02 and 03", run)

    # A chapter that fails: its notebook is kept for its author, and is nowhere else.
    pool.edit(SLUGS[4], "record", "1 / 0")
    pool.push("a mistake")
    run = service.start("gpu.yml", Event("schedule"))
    assert pool.executed(run) == {"05": "failed"}
    assert pool.results(run)["assemble"] == "failure"
    assert "05-features: the executed notebook was not handed in; execute it in profile full." in pool.said(
        run
    )
    assert "ZeroDivisionError" in pool.said(run)
    assert pool.results(run)["publish"] == "success"
    assert STALE in pool.page("05")
    assert not any("ZeroDivisionError" in pool.page(number) for number in EVERY)
    assert not any(
        "ZeroDivisionError" in path.read_text() for path in (tmp_path / "github" / "caches").rglob("*.ipynb")
    )
    pool.note("a chapter fails", run)
    assert "No machine vanished" in retry(pool, run)
    assert service.attempts[run] == 1

    # A machine that vanishes in the middle, and its job run again; the other one's work is kept meanwhile.
    pool.edit(SLUGS[4], "record", "print('mended')")
    pool.edit(SLUGS[8], "record", "print('anew')")
    pool.push("two changes")
    service.dying = "chapters 09"
    run = service.start("gpu.yml", Event("schedule"))
    assert pool.executed(run) == {"05": "good"}
    assert "09-cifar: the executed notebook was not handed in" in pool.said(run)
    assert pool.older() == ["09"]
    pool.note("a machine vanishes with 09", run)
    assert "Vanished: chapters 09 (cuda)" in retry(pool, run)
    service.again(run)
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert pool.executed(run) == {"05": "good", "09": "good"}
    assert "Fetching the data set" not in pool.said(run), "it is on the machine from before"
    assert "anew" in pool.page("09")
    assert STALE not in pool.page("09")
    pool.note("its job is run again", run)

    # A proposed change: nothing without the label; with it, what the change touches, and no public pages.
    pages = len(service.public)
    base = service.git("rev-parse", "main")
    pool.edit(SLUGS[6], "record", "print('proposed')")
    pool.push("a proposal", "refs/pull/1/merge")
    for situation, payload, starts in (
        ("pull request without the label", pull_request("synchronize", []), False),
        ("another label beside gpu", pull_request("labeled", ["gpu", "docs"], "docs"), False),
        ("a fork with the label", pull_request("labeled", ["gpu"], "gpu", fork=True), False),
        ("the label gpu", pull_request("labeled", ["gpu"], "gpu"), True),
        ("a push after the label", pull_request("synchronize", ["gpu"]), True),
    ):
        payload["pull_request"]["base"]["sha"] = base
        run = service.start("gpu.yml", Event("pull_request", "refs/pull/1/merge", payload))
        assert bool(pool.results(run)) == starts, situation
        if starts:
            assert set(pool.results(run).values()) == {"success"}, pool.said(run)
            assert list(service.artefacts(run).glob("course-1/course-*.zip")), "the preview"
        expected = {"07": "good"} if situation == "the label gpu" else {}
        assert pool.executed(run) == expected, situation
        pool.note(situation, run)
    assert len(service.public) == pages
    assert "proposed" not in pool.page("07")
    run = service.start("gpu.yml", Event("schedule"))
    assert pool.executed(run) == {}, "nothing of the proposal is on main"
    pool.note("a weekly run after that", run)

    # Every night one chapter on a GPU, whatever is kept.
    run = service.start("nightly.yml", Event("schedule"))
    assert set(pool.results(run).values()) == {"success"}, pool.said(run)
    assert pool.executed(run) == {"09": "good"}
    pool.note("nightly", run)

    header = ("situation", "jobs", "executed", "public pages", "kept")
    print("\n" + "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * 5, *pool.rows)))


def retry(pool: Pool, run: int) -> str:
    """What retry.yml says to a run that failed."""
    _, _, jobs = pool.service.runs[run]
    listed = [
        {"name": job.name, "conclusion": job.result, "steps": job.steps} for job in jobs.values() if job.steps
    ]
    (pool.service.folder / "jobs.json").write_text(json.dumps({"jobs": listed}))
    asked = pool.service.folder / "asked"
    asked.unlink(missing_ok=True)
    head = {"full_name": "course/course"}
    ended = {"id": run, "conclusion": "failure", "run_attempt": 1, "head_repository": head}
    started = pool.service.start("retry.yml", Event("workflow_run", payload={"workflow_run": ended}))
    said = pool.said(started)
    assert ("Vanished" in said) == (f"run rerun {run}" in asked.read_text())
    return said
