"""The n-gram baselines, on the same split of the names as the scripts.

names.txt:                               python results/ngram.py
Another list:                            python results/ngram.py --data data/english.txt
The names that an idea leaves to learn:  python results/ngram.py train-2-tenth-of-names

Fits a bigram (add-one) and an interpolated Kneser-Ney model (Kneser and Ney 1995; Chen and Goodman
1999), whose context and discount are chosen on the validation set, and writes their exact losses to
results/ngram.csv, beside those of other lists. It takes some seconds.
"""

import math
import time
from collections import Counter, defaultdict

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import numpy as np
from lib.command import ROOT, Failure, Parser, file_path, run
from lib.stats import error_over_names
from lib.steps import find_steps, load_names, named
from lib.tables import read_table, write_table

CONTEXTS = 2, 3, 4, 5, 6, 7, 8, 9
DISCOUNTS = 0.6, 0.7, 0.8, 0.85, 0.9, 0.95
END = "\n"  # starts and ends every name, as the scripts' boundary does


class Bigram:
    """The next character by the previous one, every pair counted once more than it occurs."""

    def __init__(self, names, chars):
        self.counts = Counter()
        for name in names:
            self.counts.update(zip(END + name, name + END, strict=True))
        self.totals = Counter()
        for (before, _), count in self.counts.items():
            self.totals[before] += count
        self.chars = len(chars) + 1  # and the end

    def size(self):
        """How many numbers it holds."""
        return len(self.counts)

    def probability(self, history, char):
        """Of the character after the history, which begins with the start of the name."""
        before = history[-1]
        return (self.counts[before, char] + 1) / (self.totals[before] + self.chars)


class KneserNey:
    """The next character by up to `context` before it, interpolated with ever shorter contexts.

    The longest contexts have the counts of what follows them. A shorter one counts in how many
    longer contexts, one character to the left, each character follows.
    """

    def __init__(self, names, chars, context, discount):
        self.context, self.discount, self.chars = context, discount, len(chars) + 1
        self.counts = defaultdict(Counter)
        for name in names:
            for i, char in enumerate(name + END):
                self.counts[(END + name)[max(0, i + 1 - context) : i + 1]][char] += 1
        for length in range(context, 0, -1):
            for history in [history for history in self.counts if len(history) == length]:
                self.counts[history[1:]].update(dict.fromkeys(self.counts[history], 1))
        self.totals = {history: found.total() for history, found in self.counts.items()}

    def size(self):
        """How many numbers it holds."""
        return sum(len(found) for found in self.counts.values())

    def probability(self, history, char):
        """Of the character after the history, which begins with the start of the name."""
        result = 1 / self.chars
        for length in range(min(self.context, len(history)) + 1):  # from no context to the longest
            known = history[len(history) - length :]
            if known not in self.totals:
                break
            found, total = self.counts[known], self.totals[known]
            left = self.discount * len(found) / total
            result = max(found[char] - self.discount, 0) / total + left * result
        return result


def losses(model, names):
    """The loss of every character of every name, one list per name."""
    return [
        [-math.log(model.probability(END + name[:i], char)) for i, char in enumerate(name + END)]
        for name in names
    ]


def mean(lists):
    return float(np.mean([loss for found in lists for loss in found]))


def evaluate(model, data):
    """The losses by the definitions of the table, and the test loss's error over test names."""
    test, known = losses(model, data.test_items), set(data.train_items)
    unseen = [x for x, name in zip(test, data.test_items, strict=True) if name not in known]
    figures = {
        "train": mean(losses(model, data.train_items)),
        "test": mean(test),
        "test_from_2nd": mean([found[1:] for found in test]),
        "test_unseen": mean(unseen) if unseen else None,
    }
    sums, targets = [sum(found) for found in test], [len(found) for found in test]
    figures["test_error"] = error_over_names(sums, targets)
    return {name: loss and round(loss, 6) for name, loss in figures.items()}


def choose(module, file, grid):
    """The (context, discount) of the grid that is best on the validation set."""
    data = module.load_data(file, module.Config(validate=True), "cpu")
    found = {}
    for context, discount in grid:
        model = KneserNey(data.train_items, data.chars, context, discount)
        found[context, discount] = mean(losses(model, data.test_items))
        print(f"context {context}, discount {discount}: validation {found[context, discount]:.4f}")
    return min(found, key=found.get)


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    text = "whose names are counted (default: train-2)"
    parser.add_argument("step", nargs="?", default="train-2", metavar="STEP", help=text)
    parser.add_argument(
        "--data", type=file_path, metavar="FILE", help="one name per line (default: names.txt)"
    )
    options = parser.parse_args(argv)
    kept = read_table(root, "ngram.csv")  # what is wrong with it shows now
    steps = find_steps(root)
    step, file = named(steps, options.step), options.data
    if step.settings:
        raise Failure(f"n-grams are counted for a script: {step.script}, not {step.key}")
    if not file:
        load_names(named(steps, "train-2").module)  # an idea's own folder has no names
        file = root / "data" / "names.txt"
    module = step.module
    data = module.load_data(file, module.Config(), "cpu")
    context, discount = choose(module, file, [(c, d) for c in CONTEXTS for d in DISCOUNTS])
    names, chars = data.train_items, data.chars
    models = {
        ("bigram", 1, ""): lambda: Bigram(names, chars),
        ("Kneser-Ney", context, discount): lambda: KneserNey(names, chars, context, discount),
    }
    of = {"script": step.script, "data": data.name, "data_hash": data.hash}
    rows = [x for x in kept if not of.items() <= x.items()]
    for (name, length, share), count in models.items():
        start = time.perf_counter()
        model = count()
        cost = {"counts": model.size(), "seconds": round(time.perf_counter() - start, 3)}
        figures = cost | evaluate(model, data)
        rows.append(of | {"model": name, "context": length, "discount": share} | figures)
        print(name, *(f"{figure} {loss}" for figure, loss in figures.items()))
    write_table(root, "ngram.csv", rows)


if __name__ == "__main__":
    run(main)
