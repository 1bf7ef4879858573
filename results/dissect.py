"""What the trained models do, as small tables that report.py draws and uses: no training.

    python results/dissect.py

It needs the checkpoints that reproduce.py leaves in results/checkpoints, and writes to results/
    by-position.csv  the test loss at every position in the name
    generated.csv    how many of 1,000 generated names are in neither split
    over-names.csv   half the 95% interval of each step's change in test loss, over the test names
"""

import torch
from lib.checkpoints import read_checkpoint, restore
from lib.command import ROOT, Failure, Parser, count, run
from lib.measured import Measured
from lib.stats import error_over_names
from lib.steps import fingerprint, load_names, named
from lib.tables import TABLES, write_table

BEFORE_ROPE = "train-2-2head-4layer-mlp-ln"
ROPE = "train-2-2head-4layer-mlp-ln-rope"
FINAL, BEST = "train-2@final", "train-2@best"
BY_POSITION = BEFORE_ROPE, ROPE, FINAL
GENERATED, NUM = ("train-2", FINAL, BEST), 1000


def trained(step, seed, results):
    """The model of a canonical run, which must be of the step as it is now."""
    path = results / "checkpoints" / f"{step.run_name(seed)}.pt"
    again = f"run python {' '.join(step.words)} --seed {seed}"
    if not path.exists():
        raise Failure(f"there is no checkpoint {path}: {again}")
    state = read_checkpoint(path)
    made_by = state["run"]
    now = fingerprint(made_by["source"], made_by["settings"]) == step.fingerprint
    if not now or state["step"] < step.config.steps:
        raise Failure(f"{path} is of an earlier state, or unfinished: {again}")
    return restore(step.module, state)


def position_losses(module, model, tokens):
    """(position, number of targets, mean loss); the first letter is at position 1."""
    sums = module.token_losses(model, tokens).double().sum(dim=0)
    counts = (tokens[:, 1:] != module.PAD).sum(dim=0)
    pairs = zip(counts.tolist(), sums.tolist(), strict=True)
    return [(i, n, f"{total / n:.6f}") for i, (n, total) in enumerate(pairs, start=1) if n]


def count_new(module, model, data, seed):
    """How many of NUM names are in neither split."""
    names = module.generate(model, data, NUM, torch.Generator().manual_seed(seed))
    known = {*data.train_items, *data.test_items}
    return sum(name not in known for name in names)


def losses_of_names(step, seeds, data, results):
    """The summed loss of every test name, (N,), the mean over the seeds."""
    runs = [
        step.module.token_losses(trained(step, seed, results), data.test).double().sum(dim=1)
        for seed in range(seeds)
    ]
    return torch.stack(runs).mean(dim=0)


def over_names(steps, seeds, data, results):
    """The rows of over-names.csv, one for every step of the chain and preset that has a base."""
    targets = (data.test[:, 1:] != steps[0].module.PAD).sum(dim=1).double()
    losses, rows = {}, []
    for step in steps:
        losses[step.key] = losses_of_names(step, seeds, data, results)
        if step.builds_on:
            error = error_over_names(losses[step.key] - losses[step.builds_on], targets)
            rows.append([step.script, step.preset, step.fingerprint, f"{error:.6f}"])
        print(step.key, flush=True)
    return rows


def dissect(step, seed, data, results):
    """The rows of one run, {file: rows}."""
    model = trained(step, seed, results)
    rows = {}
    if step.key in BY_POSITION:
        rows["by-position.csv"] = position_losses(step.module, model, data.test)
    if step.key in GENERATED:
        rows["generated.csv"] = [(NUM, count_new(step.module, model, data, seed))]
    return rows


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument(
        "--seeds", type=count, default=5, metavar="N", help="0 to N - 1 (default: 5)"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # as in the runs, so that the digits are theirs
    m = Measured(root)
    data = load_names(named(m.steps, "train-2").module)
    files = "by-position.csv", "generated.csv", "over-names.csv"
    tables = {file: [] for file in files}
    for key in dict.fromkeys([*BY_POSITION, *GENERATED]):
        step = named(m.steps, key)
        for seed in range(options.seeds):
            made_by = [step.script, step.preset, seed, step.fingerprint]
            for file, rows in dissect(step, seed, data, root / "results").items():
                tables[file] += [[*made_by, *row] for row in rows]
        print(key, flush=True)
    tables["over-names.csv"] = over_names(m.compared, options.seeds, data, root / "results")
    for file, rows in tables.items():
        write_table(root, file, [dict(zip(TABLES[file], row, strict=True)) for row in rows])


if __name__ == "__main__":
    run(main)
