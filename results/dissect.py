"""What the trained models do, as small tables that report.py draws and uses: no training.

All that have runs:  python results/dissect.py
Some of them:        python results/dissect.py chain train-2@best

It needs the trained models of the chain and of the presets of train-2.py, which reproduce.py makes
(--again, where the table has their runs). It writes to results/
    by-position.csv  the test loss at every position in the name
    generated.csv    how many of 1,000 generated names are in neither split
    over-names.csv   half the 95% interval of each step's change in test loss, over the test names
    look.csv         what seed 0 of each step of the chain makes of one name, see look.py
"""

import functools

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import torch
from lib.checkpoints import trained
from lib.command import ROOT, Failure, Parser, count, run
from lib.known import BY_POSITION, GENERATED, LAST
from lib.look import correct_rows, look, other_rows
from lib.measured import Measured
from lib.names import expand
from lib.scripts import load_names
from lib.stats import error_over_names
from lib.steps import named
from lib.tables import TABLES, update_table

NUM = 1000  # names are drawn of each
NAME = "emma"  # that look.csv is of
FILES = "by-position.csv", "generated.csv", "over-names.csv", "look.csv"


def by_position(losses, real):
    """[position, number of targets, mean loss] from (N, T) each; the first letter is at 1."""
    pairs = zip(real.sum(dim=0).tolist(), losses.sum(dim=0).tolist(), strict=True)
    return [[i, n, f"{total / n:.6f}"] for i, (n, total) in enumerate(pairs, start=1) if n]


def count_new(module, model, data, seed):
    """How many of NUM names are in neither split."""
    names = module.generate(model, data, NUM, torch.Generator().manual_seed(seed))
    known = {*data.train_items, *data.test_items}
    return sum(name not in known for name in names)


def look_rows(step, seed, model, data):
    """The probability of each character of NAME; of the last step the likeliest and the weights."""
    if step.preset or seed:
        return []
    run = {"script": step.script, "chars": data.chars, "max_len": data.max_len}
    seen = look(step.module, model, run, NAME)
    rows = correct_rows(seen) + (other_rows(seen) if step.key == LAST else [])
    return [[NAME, *row] for row in rows]


class Dissected:
    """The models of a step, seed by seed, and the loss of every test name, (N,), their mean."""

    def __init__(self, step, seeds, root, data):
        self.models = [trained(step, seed, root / "results", seeds=seeds) for seed in range(seeds)]
        # (N, T) each
        self.losses = [step.module.token_losses(x, data.test).double() for x in self.models]
        self.sums = torch.stack([x.sum(dim=1) for x in self.losses]).mean(dim=0)


def rows_of(step, of, base, data):
    """{file: its rows} of a step; `base` is what it builds on, likewise dissected, or None."""
    tables, real = {name: [] for name in FILES}, data.test[:, 1:] != step.module.PAD
    for seed, (model, losses) in enumerate(zip(of.models, of.losses, strict=True)):
        made_by = [step.key, seed, step.fingerprint]
        if step.key in BY_POSITION:
            tables["by-position.csv"] += [[*made_by, *row] for row in by_position(losses, real)]
        if step.key in GENERATED:
            tables["generated.csv"] += [[*made_by, NUM, count_new(step.module, model, data, seed)]]
        tables["look.csv"] += [[*made_by, *row] for row in look_rows(step, seed, model, data)]
    if base:
        error = error_over_names(of.sums - base.sums, real.sum(dim=1))
        tables["over-names.csv"].append([step.key, step.fingerprint, f"{error:.6f}"])
    return tables


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    text = "a step of the chain or a preset (default: all that have runs)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    text = "0 to N - 1 (default: 5)"
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help=text)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # as in the runs, so that the digits are theirs
    m = Measured(root)
    names = [one for name in options.names for one in expand(name)]
    asked = [named(m.steps, name) for name in names] or m.compared
    if foreign := [step.key for step in asked if step not in m.compared]:
        raise Failure(f"{foreign[0]} is no step of the chain, and no preset that has runs")
    data = load_names(named(m.steps, LAST).module)
    done = functools.cache(lambda step: Dissected(step, options.seeds, root, data))
    tables = {name: [] for name in FILES}
    for step in asked:
        base = done(m.steps[step.builds_on]) if step.builds_on else None
        for name, rows in rows_of(step, done(step), base, data).items():
            tables[name] += [dict(zip(TABLES[name], row, strict=True)) for row in rows]
        print(step.key, flush=True)
    keys = {step.key for step in asked}

    def gone(row):
        """What an earlier state of a step left, and rows of a step that is no more."""
        return row["step"] in keys or row["step"] not in m.steps

    for name, rows in tables.items():
        update_table(root, name, ["step"], rows, gone)


if __name__ == "__main__":
    run(main)
