"""What the average of several seeds gains, and what the n-gram baseline adds to it.

    python results/reproduce.py --again --seeds 5 train-2@best
    python results/reproduce.py --again --seeds 5 train-2@best -- --validate
    python results/ensemble.py train-2@best

Averages the probabilities that the seeds of a step give to each character, mixes the average with
those of Kneser-Ney, and writes the exact losses to results/ensemble.csv, beside those of other
steps. The losses of K models are the means over every choice of K among the seeds. How much of
Kneser-Ney goes in is chosen on the validation set, with models and counts that have not seen it.
Needs the checkpoints of the runs above, and a machine without other work, for the times.
"""

import itertools
import time
from dataclasses import dataclass

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import numpy as np
import torch
from lib.checkpoints import trained
from lib.command import ROOT, Parser, count, run
from lib.known import LAST
from lib.ngrams import GRID, KneserNey, choose, losses
from lib.scripts import load_names
from lib.stats import error_over_names
from lib.steps import find_steps, named
from lib.tables import CANONICAL, Condition, read_table, update_table

BOTH = Condition("--validate"), CANONICAL
WEIGHTS = np.arange(11) / 20  # of Kneser-Ney in a mixture


@dataclass
class HeldOut:
    """The probabilities of all targets of the held-out names, (N, L - 1), 1 where that is PAD."""

    data: object
    models: list  # one such array per seed
    ngram: np.ndarray
    params: int  # of one model
    counts: int  # that the n-gram model holds
    seconds: tuple  # that one model takes, and the n-gram model

    @property
    def targets(self):
        """How many targets each name has: its letters and its end."""
        return np.array([len(name) + 1 for name in self.data.test_items])

    def nats(self, size, weight):
        """The loss of every target, (N, L - 1): the mean over the choices of `size` models."""
        chosen = list(itertools.combinations(self.models, size))
        mixed = ((1 - weight) * sum(x) / size + weight * self.ngram for x in chosen)
        return sum(-np.log(x) for x in mixed) / len(chosen)

    def losses(self, nats):
        """The losses of the table."""
        known = set(self.data.train_items)
        unseen = [i for i, name in enumerate(self.data.test_items) if name not in known]
        return {
            "test": nats.sum() / self.targets.sum(),
            "test_from_2nd": nats[:, 1:].sum() / (self.targets - 1).sum(),
            "test_unseen": nats[unseen].sum() / self.targets[unseen].sum(),
        }


def timed(function, *arguments):
    """What the function returns, and the seconds that it takes."""
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def of_models(models, data, module):
    """The probabilities that each model gives to the targets, one array per model."""
    return [np.exp(-module.token_losses(x, data.test).double().numpy()) for x in models]


def of_ngram(ngram, data):
    """The probabilities that an n-gram model gives to the targets, 1 after the end of a name."""
    found = np.ones((len(data.test_items), data.max_len))
    for row, nats in zip(found, losses(ngram, data.test_items), strict=True):
        row[: len(nats)] = np.exp(-np.array(nats))
    return found


def held_out(step, seeds, condition, kneser_ney, root):
    """What the seeds of a step under a condition say of the names that they were not trained on."""
    module = step.module
    config = module.Config(**condition.parse(step)[0])
    data = module.load_data(root / "data" / "names.txt", config, "cpu")
    models = [trained(step, seed, root / "results", condition) for seed in range(seeds)]
    ngram = KneserNey(data.train_items, data.chars, *kneser_ney)
    params = sum(p.numel() for p in models[0].parameters())
    probabilities, time_of_all = timed(of_models, models, data, module)
    counted, time_of_ngram = timed(of_ngram, ngram, data)
    seconds = time_of_all / len(models), time_of_ngram
    return HeldOut(data, probabilities, counted, params, ngram.size(), seconds)


def rows_of(step, seeds, kneser_ney, root):
    """The rows of ensemble.csv of a step: for every number of models, without and with n-grams."""
    validation, test = (held_out(step, seeds, x, kneser_ney, root) for x in BOTH)
    single = test.nats(1, 0.0)
    for size in range(1, seeds + 1):
        tried = {x: validation.losses(validation.nats(size, x))["test"] for x in WEIGHTS.tolist()}
        for weight in sorted({0.0, min(tried, key=tried.get)}):
            row = {"step": step.key, "fingerprint": step.fingerprint}
            row |= {"models": size, "weight": weight, "params": size * test.params}
            row["counts"] = test.counts if weight else 0
            seconds = size * test.seconds[0] + (test.seconds[1] if weight else 0)
            row["ms_per_name"] = round(1000 * seconds / len(test.data.test_items), 4)
            nats = test.nats(size, weight)
            found = {"validation": tried[weight]} | test.losses(nats)
            found["error"] = error_over_names((nats - single).sum(axis=1), test.targets)
            yield row | {name: round(float(loss), 6) for name, loss in found.items()}


def main(argv=None, root=ROOT):
    """Average the seeds of a step, mix them with Kneser-Ney, and write the losses."""
    parser = Parser(__doc__)
    parser.add_argument("step", metavar="STEP", help="such as train-2@best")
    text = "seeds 0 to N - 1 (default: 5)"
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help=text)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    read_table(root, "ensemble.csv")  # what is wrong with it shows now
    steps = find_steps(root, [options.step, LAST])
    step = named(steps, options.step)
    for condition, seed in itertools.product(BOTH, range(options.seeds)):
        trained(step, seed, root / "results", condition, options.seeds)  # lacking ones show now
    load_names(named(steps, LAST).module)
    kneser_ney = choose(step.module, step.module.Config(), root / "data" / "names.txt", GRID)
    rows = list(rows_of(step, options.seeds, kneser_ney, root))
    update_table(root, "ensemble.csv", ["step"], rows)
    for row in rows:
        print(*(f"{column} {row[column]}" for column in ("models", "weight", "validation", "test")))


if __name__ == "__main__":
    run(main)
