"""The n-gram baselines: a bigram and an interpolated Kneser-Ney model, and their exact losses.

A history is what precedes a character in its name. It begins with END, so it is never empty.
"""

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np

from lib.stats import error_over_names

CONTEXTS = 2, 3, 4, 5, 6, 7, 8, 9
DISCOUNTS = 0.6, 0.7, 0.8, 0.85, 0.9, 0.95
GRID = [*itertools.product(CONTEXTS, DISCOUNTS)]
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
        """Of the character after the history."""
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
        """Of the character after the history."""
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


def mean_loss(lists):
    """The mean over the characters of all names."""
    return float(np.mean([loss for found in lists for loss in found]))


def evaluate(model, data):
    """The losses by the definitions of the table, and the test loss's error over test names."""
    test, known = losses(model, data.test_items), set(data.train_items)
    unseen = [x for x, name in zip(test, data.test_items, strict=True) if name not in known]
    figures = {
        "train": mean_loss(losses(model, data.train_items)),
        "test": mean_loss(test),
        "test_from_2nd": mean_loss([found[1:] for found in test]),
        "test_unseen": mean_loss(unseen) if unseen else None,
    }
    sums, targets = [sum(found) for found in test], [len(found) for found in test]
    figures["test_error"] = error_over_names(sums, targets)
    return {name: loss and round(loss, 6) for name, loss in figures.items()}


def choose(module, config, file, grid):
    """The (context, discount) of the grid that is best on the validation set."""
    data = module.load_data(file, replace(config, validate=True), "cpu")
    found, model = {}, None
    for context, discount in grid:
        if not model or model.context != context:  # the counts do not depend on the discount
            model = KneserNey(data.train_items, data.chars, context, discount)
        model.discount = discount
        found[context, discount] = mean_loss(losses(model, data.test_items))
        print(f"context {context}, discount {discount}: validation {found[context, discount]:.4f}")
    return min(found, key=found.get)
