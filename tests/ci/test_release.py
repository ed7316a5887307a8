"""A release: built for its own tag, tried before it is published, and published as it was tried."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_course import ROOT

JOBS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RELEASED = f"# Changelog\n\n## {VERSION}\n"


def does(job: dict[str, Any], what: str) -> int:
    """The place among a job's steps of the one that runs a script or uses an action, or -1."""
    steps = [step.get("run") or step["uses"].partition("@")[0] for step in job["steps"]]
    return steps.index(what) if what in steps else -1


def test_nothing_is_published_untried() -> None:
    (publishing,) = [job for job in JOBS.values() if does(job, "ci/release/publish.sh") >= 0]
    tried = JOBS[publishing["needs"]]
    build, attempt, hand_on = (
        does(tried, what) for what in ("ci/release/build.sh", "ci/release/try.sh", "actions/upload-artifact")
    )
    assert 0 <= build < attempt < hand_on
    assert does(publishing, "ci/release/build.sh") < 0, "these would be other files"
    taken = publishing["steps"][does(publishing, "actions/download-artifact")]["with"]
    assert taken == {"name": tried["steps"][hand_on]["with"]["name"], "path": "dist"}
    for job in (tried, publishing):
        assert not {"if", "continue-on-error"} & {*job, *(key for step in job["steps"] for key in step)}


def test_only_the_job_that_publishes_gets_a_token() -> None:
    allowed = {name: job.get("permissions", {}).get("id-token") for name, job in JOBS.items()}
    assert allowed == {"wheel": None, "publish": "write"}


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v99", RELEASED, f"The tag v99 is not that of version {VERSION} in pyproject.toml"),
        (f"v{VERSION}", "# Changelog\n\n## Unreleased\n", f"CHANGELOG.md has no section on {VERSION}"),
        (f"v{VERSION}", RELEASED, ""),
        (f"v{VERSION}", RELEASED.replace(VERSION, f"[{VERSION}] - 2026-12-01"), ""),
    ],
)
def test_the_tag_and_the_changelog_are_of_the_version(
    tag: str, changelog: str, said: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    uv = tmp_path / "ci" / "release" / "uv.sh"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\necho uv $*\n")
    uv.chmod(0o755)
    script = ROOT / "ci" / "release" / "build.sh"
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": tag}
    python = shutil.which("python3")
    assert python
    environment["PATH"] = f"{Path(python).parent}:{environment['PATH']}"
    done = subprocess.run([script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == ((1, "") if said else (0, "uv build --out-dir dist\n"))
    assert said in done.stderr
