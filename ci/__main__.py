"""The course's commands; each Makefile target is one line over this file, so `make` is not needed."""

# Only this file and ci/environment.py run on a bare Python, so they import the standard library alone.
import argparse
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"The course needs Python 3.11 or newer, but {sys.executable} is older "
        f"({sys.version.split()[0]}): name a newer one, as in `make book PYTHON=python3.11`."
    )

from ci import environment

ROOT = Path(__file__).resolve().parent.parent
NEED_DEVELOPERS_TOOLS = ("test", "pins", "pre-commit")


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per Makefile target, and others for runners."""
    commands = argparse.ArgumentParser(prog="python -m ci", description="Build, test and run the course.")
    add = commands.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    book = add("book", help="execute the chapters that changed and build the pages into _build/html")
    book.add_argument("--profile", default="quick", help="quick (default), short or full")
    book.add_argument("--chapters", default="all", help='which to execute, as in "02 03" (default: all)')
    test = add("test", help="linters, types, unit tests, the book and its pages in a real browser")
    test.add_argument("--only", nargs="+", default=[], metavar="CHECK", help='some, as in "lint spelling"')
    add("offline", help="the course as one archive that opens from disk, in _build")
    add("pdf", help="the course as one PDF, in _build; needs Chromium")
    add("lab", help="open the chapters in JupyterLab")
    bench = add("bench", help="time commands, training and losses; tables, and _build/bench.json")
    bench.add_argument("--only", nargs="+", default=[], help="of: commands pages speed losses agreement")
    bench.add_argument("--keep", action="store_true", help="let the method cards show what the losses cost")
    plan = add("plan", help="print, as JSON, which chapters to execute on which machines")
    run = add("execute", help="execute chapters within their budgets, and build no pages")
    assemble = add("assemble", help="build pages and an archive from what other machines executed")
    for command in (plan, run, assemble):
        command.add_argument("--profile", default="full", help="quick, short or full (default)")
    for command in (plan, run, assemble):
        command.add_argument("--chapters", default="all", help='which, as in "02 03", or none (default: all)')
    plan.add_argument("--machines", type=int, default=4, help="at most so many (default: 4)")
    plan.add_argument("--since", help="a commit: only chapters that differ from its sources")
    plan.add_argument("--gpu-hours", type=float, default=float("inf"), help="on all GPUs together, at most")
    run.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu", help="what has to be there")
    assemble.add_argument("folders", nargs="*", type=Path, help="folders with what machines handed in")
    kd = add("kd", help="run kd in the course's environment, as in `python -m ci kd list`")
    kd.add_argument("rest", nargs=argparse.REMAINDER)
    add("clean", help="remove _build")
    notebooks = add("notebooks", help="lint the chapters; --fix removes outputs, counts and widget state")
    notebooks.add_argument("--fix", action="store_true", help="mend what can be mended without judgement")
    chapter = add("chapter", help="make a new last chapter that keeps the rules, to be written over")
    chapter.add_argument("title", help='such as "How long should a student study?"')
    pins = add("pins", help="lock what pyproject.toml asks for in ci/requirements, for every system")
    pins.add_argument("--upgrade", action="store_true", help="at the newest versions, not those of before")
    add("pre-commit", help="let git run the quick checks before each commit, from now on")
    address = add("address", help="change the course's address wherever it is written")
    address.add_argument("new", help="of the repository, as in https://github.com/OWNER/NAME")
    add("picture", help="copy the first figure of chapter 1 to .github/picture.png, for the README")
    add("help", help="show this text")
    return commands


def main(arguments: list[str]) -> int:
    """Run one command, inside the course's environment when it needs more than the standard library."""
    options = parser().parse_args(arguments)
    if options.command == "help":
        parser().print_help()
        return 0
    if options.command == "clean":
        from ci import clean

        return clean.clean(ROOT)
    environment.enter(ROOT, arguments, "dev" if options.command in NEED_DEVELOPERS_TOOLS else "book")

    from ci import commands

    return commands.run(ROOT, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
