"""The n-gram baselines, on the same split of the names as the scripts.

    python results/ngram.py

Fits a bigram (add-one) and an interpolated Kneser-Ney model (Kneser and Ney 1995; Chen and Goodman
1999), whose context and discount are chosen on the validation set, and writes their exact losses to
results/ngram.csv. It takes some seconds.
"""

import math
from collections import Counter, defaultdict

import numpy as np
from lib.command import ROOT, Parser, run
from lib.steps import load, load_names
from lib.tables import write_table

CONTEXTS = 2, 3, 4, 5, 6, 7
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
        self.size = len(chars) + 1

    def probability(self, history, char):
        """Of the character after the history, which begins with the start of the name."""
        before = history[-1]
        return (self.counts[before, char] + 1) / (self.totals[before] + self.size)


class KneserNey:
    """The next character by up to `context` before it, interpolated with ever shorter contexts.

    The longest contexts have the counts of what follows them. A shorter one counts in how many
    longer contexts, one character to the left, each character follows.
    """

    def __init__(self, names, chars, context, discount):
        self.context, self.discount, self.size = context, discount, len(chars) + 1
        self.counts = defaultdict(Counter)
        for name in names:
            for i, char in enumerate(name + END):
                self.counts[(END + name)[max(0, i + 1 - context) : i + 1]][char] += 1
        for length in range(context, 0, -1):
            for history in [history for history in self.counts if len(history) == length]:
                self.counts[history[1:]].update(dict.fromkeys(self.counts[history], 1))
        self.totals = {history: found.total() for history, found in self.counts.items()}

    def probability(self, history, char):
        """Of the character after the history, which begins with the start of the name."""
        result = 1 / self.size
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
    """The exact losses by the definitions of the table, six decimals."""
    test, known = losses(model, data.test_items), set(data.train_items)
    unseen = [x for x, name in zip(test, data.test_items, strict=True) if name not in known]
    figures = {
        "train": mean(losses(model, data.train_items)),
        "test": mean(test),
        "test_from_2nd": mean([found[1:] for found in test]),
        "test_unseen": mean(unseen),
    }
    return {name: f"{loss:.6f}" for name, loss in figures.items()}


def choose(module, grid):
    """The (context, discount) of the grid that is best on the validation set."""
    data = module.load_data(None, module.Config(validate=True), "cpu")
    found = {}
    for context, discount in grid:
        model = KneserNey(data.train_items, data.chars, context, discount)
        found[context, discount] = mean(losses(model, data.test_items))
        print(f"context {context}, discount {discount}: validation {found[context, discount]:.4f}")
    return min(found, key=found.get)


def main(argv=None, root=ROOT):
    Parser(__doc__).parse_args(argv)
    module = load(root / "train-2.py")
    data = load_names(module)
    context, discount = choose(module, [(c, d) for c in CONTEXTS for d in DISCOUNTS])
    models = {
        ("bigram", 1, ""): Bigram(data.train_items, data.chars),
        ("Kneser-Ney", context, discount): KneserNey(
            data.train_items, data.chars, context, discount
        ),
    }
    rows = []
    for (name, length, share), model in models.items():
        figures = evaluate(model, data)
        rows.append({"model": name, "context": length, "discount": share} | figures)
        print(name, *(f"{figure} {loss}" for figure, loss in figures.items()))
    write_table(root, "ngram.csv", rows)


if __name__ == "__main__":
    run(main)
