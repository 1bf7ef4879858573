"""The pages and the figures, made from the tables of results.

Rewrite README.md and results/README.md, draw:  python results/report.py
Change nothing, only check the pages:           python results/report.py --check
What has no part in the comparison, and why:    python results/report.py --all
"""

from harness.command import ROOT, Failure, Parser, run, write_whole
from harness.evidence import gather
from harness.pages import differences, pages, rebuild
from harness.rows import STALE, key_of


def note_lacking(evidence):
    """Say which runs one step has and another lacks, or has only of an earlier state."""
    seeds = {seed for step in evidence.compared for seed in step.rows}
    stale = [row for row in evidence.others if row["why"] == STALE]
    compared = {step.key for step in evidence.compared}
    seeds |= {row["seed"] for row in stale if key_of(row) in compared}
    for step in evidence.compared:
        lacking = sorted(seeds - step.rows.keys())
        if lacking:
            command = f"python results/reproduce.py --seeds {lacking[-1] + 1} {step.key}"
            print(f"note: {step.key} lacks seeds {', '.join(map(str, lacking))}: {command}")
    not_run = sum(not step.rows for step in evidence.ideas)
    if not_run:
        print(f"note: {not_run} ideas have no runs yet: python results/reproduce.py --seeds 5")


def print_others(rows):
    """The rows that have no part in the comparison, as aligned text."""
    columns = "script preset overrides data device seed train test finished why".split()
    lines = [columns, *([str(row[column]) or "–" for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def check(rebuilt):
    """Raise Failure where a page is not what the tables give, or presumes what does not hold."""
    differing = [x for page, (old, new, _) in rebuilt.items() for x in differences(page, old, new)]
    broken = [text for _, _, texts in rebuilt.values() for text in texts]
    for text in [*differing, *broken]:
        print(text)
    if differing:
        raise Failure("the pages are not what the tables give: run python results/report.py", 1)
    if broken:
        raise Failure("a sentence presumes what its figure does not show: rewrite it", 1)
    print("the pages are what the tables give")


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="change nothing, compare the pages")
    only.add_argument("--all", action="store_true", help="print the rows that do not count")
    options = parser.parse_args(argv)
    evidence = gather(root)
    if options.all:
        return print_others(evidence.others)
    rebuilt = {page: rebuild(page, evidence) for page in pages(root)}
    if options.check:
        return check(rebuilt)

    from harness.pictures import draw  # and with it matplotlib, which --check does without

    files = {root / "results" / "plots" / name: png for name, png in draw(evidence).items()}
    for page, (_, new, broken) in rebuilt.items():
        files[page] = new.encode()
        for text in broken:
            print(f"note: {text}")
    for path, content in files.items():  # all of it is made before any of it is written
        write_whole(path, content)
    note_lacking(evidence)


if __name__ == "__main__":
    run(main)
