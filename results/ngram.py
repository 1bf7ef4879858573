"""The n-gram baselines, on the same split of the names as the scripts.

names.txt:                               python results/ngram.py
Another list:                            python results/ngram.py --data data/english.txt
The names that an idea leaves to learn:  python results/ngram.py train-2-fewer-names

Fits a bigram (add-one) and an interpolated Kneser-Ney model (Kneser and Ney 1995; Chen and Goodman
1999), whose context and discount are chosen on the validation set, and writes their exact losses to
results/ngram.csv, beside those of other lists. It takes some seconds.
"""

import time

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
from lib.command import ROOT, Failure, Parser, file_path, run
from lib.known import LAST
from lib.ngrams import GRID, Bigram, KneserNey, choose, evaluate
from lib.scripts import load_names
from lib.steps import find_steps, named
from lib.tables import read_table, update_table


def rows_of(step, file):
    """The rows of ngram.csv of a list, which is split as the script of the step splits it."""
    data = step.module.load_data(file, step.config, "cpu")
    context, discount = choose(step.module, step.config, file, GRID)
    names, chars = data.train_items, data.chars
    models = {
        ("bigram", 1, ""): lambda: Bigram(names, chars),
        ("Kneser-Ney", context, discount): lambda: KneserNey(names, chars, context, discount),
    }
    of = {"step": step.key, "data": data.name, "data_hash": data.hash}
    for (name, length, share), fit in models.items():
        start = time.perf_counter()
        model = fit()
        cost = {"counts": model.size(), "seconds": round(time.perf_counter() - start, 3)}
        figures = cost | evaluate(model, data)
        print(name, *(f"{figure} {loss}" for figure, loss in figures.items()))
        yield of | {"model": name, "context": length, "discount": share} | figures


def main(argv=None, root=ROOT):
    """Fit both models to a list and write their losses."""
    parser = Parser(__doc__)
    text = "whose training names are counted (default: train-2)"
    parser.add_argument("step", nargs="?", default=LAST, metavar="STEP", help=text)
    parser.add_argument(
        "--data", type=file_path, metavar="FILE", help="one name per line (default: names.txt)"
    )
    options = parser.parse_args(argv)
    read_table(root, "ngram.csv")  # what is wrong with it shows now
    steps = find_steps(root, [options.step, LAST])
    step, file = named(steps, options.step), options.data
    if step.key != step.names_of():
        raise Failure(f"n-grams are recorded for {step.names_of()}, not for {step.key}")
    if not file:
        load_names(named(steps, LAST).module)  # an idea's own folder has no names
        file = root / "data" / "names.txt"
    update_table(root, "ngram.csv", ["step", "data_hash"], [*rows_of(step, file)])


if __name__ == "__main__":
    run(main)
