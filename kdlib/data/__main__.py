"""`python -m kdlib.data`: list, get and check data sets.

Exit codes: 0 done, 1 it failed, 2 the command was wrong.
"""

import argparse
import sys

from kdlib.data.catalogue import data_root, sources
from kdlib.data.download import download_data
from kdlib.data.load import load_data


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m kdlib.data", description="The data sets of the course.")
    parser.add_argument("--root", help="the data root; KDLIB_DATA if not given")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, and which of it is here")
    for command, what in (("get", "download one"), ("check", "count its images and classes")):
        commands.add_parser(command, help=what).add_argument("name", choices=list(sources()))
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            _list(options.root)
        elif options.command == "get":
            print(f"{options.name} is in {download_data(options.name, options.root)}")
        else:
            _check(options.name, options.root)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _list(root: str | None) -> None:
    print(f"data root: {data_root(root)}")
    for source in sources().values():
        here = "here" if (data_root(root) / source.folder).is_dir() else "not here"
        size = f"{source.images:>6} images  {source.classes:>3} classes"
        print(f"{source.name:<14} {here:<9} {size}  {source.title}")


def _check(name: str, root: str | None) -> None:
    source, data = sources()[name], load_data(name, root=root, division="published")
    images = len(data.train) + len(data.test)
    if (images, data.num_classes) != (source.images, source.classes):
        raise ValueError(
            f"{source.title} in {source.path(root)} has {images} images in {data.num_classes} classes, and "
            f"should have {source.images} in {source.classes}; remove it and get it again."
        )
    print(f"{name}: {images} images in {data.num_classes} classes, as it should be")


if __name__ == "__main__":
    sys.exit(main())
