"""The chapters as they are shared: with their outputs, in the branch `executed`.

GitHub and nbviewer show them there with their figures, and the pages' buttons open them in Colab and Binder.
"""

from __future__ import annotations

import json

from ci.chapters import Job, Notebook, Repository, read_notebook, source_of, tags_of
from ci.execute import write_whole
from ci.pages.build import last_execution, markdown_cell, note_for, pin, with_outputs

INJECTED = """\
:::{{note}}
The outputs below were made with these values in place of those above:

~~~python
{values}
~~~
:::"""


def write_notebooks(repository: Repository, jobs: list[Job], commit: str | None) -> None:
    """Write every chapter with its last outputs into _build/notebooks, pinned to a commit, as on its page."""
    for job in jobs:
        last = last_execution(repository, job)
        notebook = with_outputs(read_notebook(job.chapter.source), last, note_for(job, last))
        pin(notebook, commit)
        tell_injected(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        write_whole(repository.notebooks / job.chapter.source.name, text.encode("utf-8"))


def tell_injected(notebook: Notebook) -> None:
    """Say which parameters ran, in words: as code they would start a run of hours on a reader's machine."""
    for place, cell in enumerate(notebook["cells"]):
        if "injected-parameters" in tags_of(cell):
            values = source_of(cell).removeprefix("# Parameters\n").strip()
            notebook["cells"][place] = markdown_cell("parameters-that-ran", INJECTED.format(values=values))
