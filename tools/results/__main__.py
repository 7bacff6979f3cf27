"""``python -m tools.results``."""

import argparse
from pathlib import Path

from tools.results.data import DATA, collect, load
from tools.results.pages import RESULTS, figures, pages


def main() -> None:
    """Make the pages."""
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=__doc__)
    parser.add_argument("--from", dest="study", type=Path, metavar="DIR")
    parser.add_argument("--to", type=Path, default=RESULTS, metavar="DIR", help="docs/results")
    options = parser.parse_args()
    folder = options.to / DATA
    if options.study is not None:
        collect(options.study, folder)
    data = load(folder)
    for name, text in pages(data).items():
        (options.to / name).write_text(text, encoding="utf-8")
    figures(data, options.to)


if __name__ == "__main__":
    main()
