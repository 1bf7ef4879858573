"""The pages and the figures, made from the tables of results.

Rewrite README.md and results/README.md, draw:  python results/report.py
Change nothing, only check them:                python results/report.py --check
The rows that count nowhere, and why:           python results/report.py --all
"""

from lib.command import ROOT, Failure, Parser, run, write_whole
from lib.figures import draw, stale
from lib.measured import Measured
from lib.pages import differences, pages, rebuild
from lib.patches import note


def print_others(rows):
    """The rows that count nowhere, as aligned text."""
    columns = "script preset overrides data device seed train test finished why".split()
    lines = [columns, *([str(row[column]) or "–" for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def check(m, rebuilt):
    """Raise Failure where a page or a figure is not what the tables give, or a claim is wrong."""
    differing = [x for page, (old, new, _) in rebuilt.items() for x in differences(page, old, new)]
    differing += stale(m)
    broken = [text for _, _, texts in rebuilt.values() for text in texts]
    for text in [*differing, *broken]:
        print(text)
    if differing:
        raise Failure("not what the tables give: run python results/report.py", 1)
    if broken:
        raise Failure("a sentence claims what its figure does not show: rewrite it", 1)
    print("the pages and figures are what the tables give")


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="change nothing, compare")
    only.add_argument("--all", action="store_true", help="print the rows that do not count")
    options = parser.parse_args(argv)
    m = Measured(root)
    for script, original in m.copies.items():
        note(f"{script} is left out: it has the label and BUILDS_ON of {original}")
    if options.all:
        return print_others(m.others())
    rebuilt = {page: rebuild(page, m) for page in pages(root)}
    for group in m.groups:
        if not any(f"<!-- group {group} -->" in text for text, _, _ in rebuilt.values()):
            note(f"no page has a table of the ideas of the group {group}")
    if options.check:
        return check(m, rebuilt)
    files = draw(m)
    for page, (_, new, broken) in rebuilt.items():
        files[page] = new.encode()
        for text in broken:
            print(f"note: {text}")
    for path, content in files.items():  # all of it is made before any of it is written
        write_whole(path, content)


if __name__ == "__main__":
    run(main)
