"""Before a commit: what pre-commit runs, on a copy of the course, with mistakes in it and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_course import ROOT, copy_sources


def committed(course: Path, *what: str) -> subprocess.CompletedProcess[str]:
    """An attempt to commit some files, with the hooks that `python -m ci pre-commit` installs."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(course), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
        "PRE_COMMIT_HOME": str(course.parent / "pre-commit"),
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)

    run("git", "init", "--quiet")
    installed = run(sys.executable, "-m", "ci", "pre-commit")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    run("git", "reset", "--quiet")
    run("git", "add", *what)
    return run("git", "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-m", "a change")


@pytest.mark.system
def test_a_commit_with_mistakes_is_stopped_and_one_without_is_made(tmp_path: Path) -> None:
    course = copy_sources(tmp_path / "course")
    chapter = course / "book" / "02-temperature.ipynb"
    notebook = json.loads(chapter.read_text())
    ran = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    ran["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "done"}]
    chapter.write_text(json.dumps(notebook))
    readme, script = course / "README.md", course / "ci" / "made.py"
    readme.write_text(readme.read_text() + "\nWe recieve it.\n")
    script.write_text("import os\n")
    stopped = committed(course, ".")
    assert stopped.returncode == 1
    for said in ("files were modified by this hook", "`recieve`", "F401"):
        assert said in stopped.stderr, stopped.stderr
    assert chapter.read_text() == (ROOT / "book" / chapter.name).read_text(), "its outputs are gone"

    readme.write_text(readme.read_text().replace("recieve", "receive"))
    made = committed(course, "README.md")
    assert made.returncode == 1, "what is not in the commit counts, too: ruff looks at all"
    script.unlink()
    made = committed(course, "README.md")
    assert made.returncode == 0, made.stderr
    assert "no files to check" in made.stderr, "a commit without a chapter looks at none"
