"""The pages and the figures, made from the tables of results.

Rewrite the pages, draw the figures:    python results/report.py
Change nothing, only check them:        python results/report.py --check
The tables under a condition, printed:  python results/report.py -- --data towns.txt
The rows that count nowhere, and why:   python results/report.py --all

A condition is written as flags of the scripts: --steps 1000, --validate, --data FILE. What is
printed under it is Markdown: the chain, the ideas, your own scripts, and whatever else has runs
under it. No page changes.
"""

from collections import defaultdict
from pathlib import Path

from lib.absent import absent, unlisted
from lib.blocks import columns, comparison, of_steps
from lib.command import ROOT, Failure, Parser, run, split_flags, write_whole
from lib.figures import draw, stale
from lib.measured import Measured
from lib.pages import differences, pages, rebuild
from lib.patches import note
from lib.steps import refuse_twice
from lib.tables import Condition


def print_others(rows):
    """The rows that count nowhere, as aligned text."""
    columns = "script preset overrides data device seed train test finished why".split()
    lines = [columns, *([str(row[column]) or "–" for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def refuse_same_labels(m):
    """Raise Failure where two steps that a page can show have the same label."""
    files = defaultdict(list)
    for step in m.steps.values():
        if not step.is_own:
            files[step.label].append(step)
    for label, (step, *others) in files.items():
        if others:
            both = " and ".join(f"{x.key} ({x.file})" for x in (step, others[0]))
            raise Failure(f"the label {label!r} is that of {both}: change one of them")


def check(m, rebuilt):
    """Raise Failure where a page or a figure is not what the tables give, or a claim is wrong."""
    differing = [x for page, (old, new, _) in rebuilt.items() for x in differences(page, old, new)]
    differing += [f"{x} is {'stale' if x.exists() else 'missing'}" for x in stale(m)]
    broken = [text for _, _, texts in rebuilt.values() for text in texts]
    for text in [*differing, *broken]:
        print(text)
    if differing:
        raise Failure("not what the tables give: run python results/report.py", 1)
    if broken:
        raise Failure("a sentence claims what its figure does not show: rewrite it", 1)
    print("the pages and figures are what the tables give")


def takes(step, flags):
    """Whether flags leave alone what the step's own name sets: else it is another step."""
    try:
        refuse_twice(step, flags)
    except Failure:
        return False
    return True


def print_tables(m, flags):
    """What has runs under the condition: the chain, the ideas by group, one's own, and others."""
    folder, groups = Path.cwd(), defaultdict(list)
    own = columns("builds on,parameters,seeds,train,test,change in test")
    for step in [*m.steps.values(), *unlisted(m)]:
        if m.runs(step) and step not in m.chain and takes(step, m.condition.rest):
            groups[step.group or "presets, own scripts and other settings"].append(step)
    tables = {name: of_steps(m, folder, steps, own) for name, steps in groups.items()}
    if any(m.runs(step) for step in m.chain):
        tables = {"the chain": comparison(m, folder)} | tables
    if not tables:
        m.settings(m.chain[-1])  # they may be no flags of the scripts
        raise Failure(f"nothing has runs under {' '.join(flags)}", 1)
    what = " (test is the loss on the validation set)" if "--validate" in flags else ""
    print(f"Under `{' '.join(flags)}`{what}:\n")
    for name, text in tables.items():
        print(f"**{name}**\n\n{text}\n")


def say_what_is_left_out(m, texts):
    """One line for each group, idea and script of one's own that is in no page, and why."""
    for group in m.groups:
        shown = any(f"<!-- group {group} -->" in text for text in texts)
        if not shown and any(m.runs(step) for step in m.group(group)):
            note(f"no page has a table of the ideas of the group {group}")
    for step in m.steps.values():
        line = absent(m, step)
        if line and (step.is_own or (step.is_idea and not step.is_preset)):
            note(line)


def main(argv=None, root=ROOT):
    argv, flags = split_flags(argv)
    parser = Parser(__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="change nothing, compare")
    only.add_argument("--all", action="store_true", help="print the rows that do not count")
    options = parser.parse_args(argv)
    m = Measured(root, condition=Condition(*flags))
    if flags:
        if options.check or options.all:
            raise Failure("--check and --all have no condition")
        return print_tables(m, flags)
    if options.all:
        return print_others(m.others())
    refuse_same_labels(m)
    rebuilt = {page: rebuild(page, m) for page in pages(root)}
    say_what_is_left_out(m, [text for text, _, _ in rebuilt.values()])
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
