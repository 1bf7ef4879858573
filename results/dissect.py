"""What the trained models do, as small tables that report.py draws and uses: no training.

    python results/dissect.py

It needs the trained models of the chain and of the presets of train-2.py, which reproduce.py makes
(--again, where the table has their runs). It writes to results/
    by-position.csv  the test loss at every position in the name
    generated.csv    how many of 1,000 generated names are in neither split
    over-names.csv   half the 95% interval of each step's change in test loss, over the test names
    look.csv         what seed 0 of each step of the chain makes of one name, see look.py
"""

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import torch
from lib.checkpoints import trained
from lib.command import ROOT, Parser, count, run
from lib.known import LAST
from lib.look import correct_rows, look, other_rows
from lib.measured import Measured
from lib.stats import error_over_names
from lib.steps import load_names, named
from lib.tables import TABLES, update_table

BY_POSITION = "train-2-2head-4layer-mlp-ln", "train-2-2head-4layer-mlp-ln-rope", "train-2@final"
GENERATED, NUM = ("train-2", "train-2@final", "train-2@best"), 1000
NAME = "emma"  # that look.csv is of


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


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument(
        "--seeds", type=count, default=5, metavar="N", help="0 to N - 1 (default: 5)"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # as in the runs, so that the digits are theirs
    m = Measured(root)
    data = load_names(named(m.steps, LAST).module)
    sums = {}  # {step: the loss of every test name, (N,), the mean over the seeds}
    tables = {"by-position.csv": [], "generated.csv": [], "over-names.csv": [], "look.csv": []}
    for step in m.compared:
        module = step.module
        found = []
        for seed in range(options.seeds):
            model = trained(step, seed, root / "results", seeds=options.seeds)
            losses = module.token_losses(model, data.test).double()  # (N, T)
            found.append(losses.sum(dim=1))
            made_by = [step.key, seed, step.fingerprint]
            if step.key in BY_POSITION:
                rows = by_position(losses, data.test[:, 1:] != module.PAD)
                tables["by-position.csv"] += [[*made_by, *row] for row in rows]
            tables["look.csv"] += [[*made_by, *x] for x in look_rows(step, seed, model, data)]
            if step.key in GENERATED:
                new = count_new(module, model, data, seed)
                tables["generated.csv"].append([*made_by, NUM, new])
        sums[step.key] = torch.stack(found).mean(dim=0)
        if step.builds_on in sums:
            targets = (data.test[:, 1:] != module.PAD).sum(dim=1)
            error = error_over_names(sums[step.key] - sums[step.builds_on], targets)
            tables["over-names.csv"].append([step.key, step.fingerprint, f"{error:.6f}"])
        print(step.key, flush=True)

    def gone(row):
        """What an earlier state of a step left, and rows of a step that is no more."""
        return row["step"] in sums or row["step"] not in m.steps

    for file, rows in tables.items():
        rows = [dict(zip(TABLES[file], row, strict=True)) for row in rows]
        update_table(root, file, ["step"], rows, gone)


if __name__ == "__main__":
    run(main)
