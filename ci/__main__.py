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


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per Makefile target, and three for maintainers."""
    commands = argparse.ArgumentParser(prog="python -m ci", description="Build, test and run the course.")
    add = commands.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    book = add("book", help="execute the chapters that changed and build the pages into _build/html")
    book.add_argument("--profile", default="quick", help="quick (default), short or full")
    book.add_argument("--chapters", default="all", help='which to execute, as in "02 03" (default: all)')
    add("test", help="linters, types, unit tests, the book and its pages in a real browser")
    add("lab", help="open the chapters in JupyterLab")
    bench = add("bench", help="time commands, training and losses; tables, and _build/bench.json")
    bench.add_argument("--only", nargs="+", default=[], help="of: commands speed losses agreement")
    add("clean", help="remove _build")
    notebooks = add("notebooks", help="lint the chapters; --fix removes outputs, counts and widget state")
    notebooks.add_argument("--fix", action="store_true", help="mend what can be mended without judgement")
    add("pins", help="rewrite the pinned versions from the packages of this environment")
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
    environment.enter(ROOT, arguments)

    from ci import commands

    return commands.run(ROOT, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
