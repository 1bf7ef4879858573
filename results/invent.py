"""Make the bundled list of names from a trained model, and find the lowest loss possible on it.

The model:         python results/reproduce.py --again train-2@best
The bundled list:  python results/invent.py
A longer one:      python results/invent.py data/drawn.txt --num 400000

Draws as many names as names.txt has from the best preset, seed 0, at temperature 1. Names repeat,
as there. An empty name, and one longer than any real name, is drawn again. Writes the names to the
file, and to results/floor.csv the losses on them of the very distribution that they come from: no
model beats those but by chance. Beside them is the entropy of that distribution, from 320,330
further names. It takes some minutes, 400,000 names half an hour. Another processor may draw other
names.
"""

import math
import types

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import torch
from lib.checkpoints import trained
from lib.command import ROOT, Failure, Parser, count, file_path, run, write_whole
from lib.known import BEST
from lib.scripts import load_names
from lib.stats import error_over_names
from lib.steps import find_steps, named
from lib.tables import read_table, update_table

STEP, SEED = BEST, 0  # the seed of the run, and of the drawing


def draw(module, model, real, num, generator):
    """That many names of 1 to max_len - 1 letters, and the fraction of all draws that are such."""
    longest = real.max_len - 1
    # One position more, so that a name that would go on shows.
    data = types.SimpleNamespace(chars=real.chars, max_len=real.max_len + 1)
    names, draws = [], 0
    while len(names) < num:
        found = module.generate(model, data, 1000, generator)
        names += [name for name in found if 0 < len(name) <= longest]
        draws += len(found)
    return names[:num], len(names) / draws


def loss(module, model, chars, names, kept):
    """The mean loss per token of the distribution of the kept names, and its test-sampling error.

    The model gives a name the probability p; among the kept ones it has p / kept.
    """
    rows = [
        [module.BOUNDARY, *(chars.index(x) + 2 for x in name), module.BOUNDARY] for name in names
    ]
    rows = [torch.tensor(row) for row in rows]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=module.PAD)
    losses = module.token_losses(model, tokens).double().sum(dim=1) + math.log(kept)  # (N,)
    targets = torch.tensor([len(name) + 1 for name in names]).double()
    return (losses.sum() / targets.sum()).item(), error_over_names(losses, targets)


def main(argv=None, root=ROOT):
    """Draw the list and the further names, and write the list and its floor."""
    parser = Parser(__doc__)
    text = "where the names go (default: data/sample-names.txt, which is in git)"
    parser.add_argument("file", nargs="?", type=file_path, metavar="FILE", help=text)
    text = "how many names, for a FILE of their own (default: as many as names.txt has)"
    parser.add_argument("--num", type=count, metavar="N", help=text)
    options = parser.parse_args(argv)
    # floor.csv tells lists apart by the names of their files.
    bundled = root / "data" / "sample-names.txt"
    path = options.file or bundled
    if path.name == "names.txt":
        raise Failure("names.txt is what the model learned from: name another FILE")
    if path.name == bundled.name and (options.num or path.resolve() != bundled.resolve()):
        raise Failure("sample-names.txt is the bundled list, without --num: name another FILE")
    read_table(root, "floor.csv")  # what is wrong with it shows now
    torch.set_num_threads(1)  # as in the run, so that the digits are the same
    step = named(find_steps(root, [STEP]), STEP)
    module = step.module
    real = load_names(module)
    model = trained(step, SEED, root / "results")
    known = {*real.train_items, *real.test_items}
    num = len(real.train_items) + len(real.test_items)
    generator = torch.Generator().manual_seed(SEED)
    names, kept = draw(module, model, real, options.num or num, generator)
    write_whole(path, "".join(f"{name}\n" for name in names).encode())

    data = module.load_data(path, module.Config(), "cpu")
    # Ten times as many as names.txt has, so that the entropy has a small error for every list.
    further, _ = draw(module, model, real, 10 * num, generator)
    row = {
        "data": data.name,
        "data_hash": data.hash,
        "made_by": step.run_name(SEED),
        "kept": round(kept, 6),
    }
    row["known"] = round(sum(name in known for name in names) / len(names), 6)
    figures = {"train": data.train_items, "test": data.test_items, "entropy": further}
    for column, items in figures.items():
        found, error = loss(module, model, real.chars, items, kept)
        row |= {column: round(found, 6), f"{column}_error": round(error, 6)}
    update_table(root, "floor.csv", ["data"], [row])
    print("\n".join(f"{column:14} {value}" for column, value in row.items()))


if __name__ == "__main__":
    run(main)
