"""results/ensemble.py: averages of several seeds, and mixtures with the n-gram baseline."""

import itertools
import math

import ensemble
import pytest
from lib import ngrams
from lib.checkpoints import read_checkpoint, restore
from lib.command import Failure
from lib.tables import read_table
from tools import LAST, miniature

SEEDS = 2


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A project with the ensembles of two seeds of the last step."""
    project = miniature(tmp_path_factory.mktemp("ensemble") / "project")
    step = project.steps[LAST]
    for seed, flags in itertools.product(range(SEEDS), ([], ["--validate"])):
        step.module.main(["--device", "cpu", "--seed", str(seed), *flags])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "WEIGHTS", ensemble.np.array([0.0, 0.3, 0.6]))
        patch.setattr(ensemble, "GRID", [(2, 0.8)])
        ensemble.main([LAST, "--seeds", str(SEEDS)], project.root)
    return project


def losses(project, condition, seeds, weight):
    """The loss of the mixture on the held-out names, character by character."""
    module = project.steps[LAST].module
    data = module.load_data(None, module.Config(validate=bool(condition)), "cpu")
    names = [f"{LAST}{condition}-seed{seed}" for seed in seeds]
    states = [read_checkpoint(project.results / "checkpoints" / f"{name}.pt") for name in names]
    tables = [module.token_losses(restore(module, state), data.test) for state in states]
    counted = ngrams.KneserNey(data.train_items, data.chars, 2, 0.8)
    found = []
    for row, name in enumerate(data.test_items):
        for place, char in enumerate(name + ngrams.END):
            share = sum(math.exp(-table[row, place]) for table in tables) / len(tables)
            of_ngram = counted.probability(ngrams.END + name[:place], char)
            found.append(-math.log((1 - weight) * share + weight * of_ngram))
    return sum(found) / len(found)


def test_the_losses_are_those_of_the_averaged_probabilities(mixed):
    """Of one model, the mean of both; each with the share of Kneser-Ney that the table names."""
    rows = read_table(mixed.root, "ensemble.csv")
    assert [row["models"] for row in rows] == [1, 1, 2, 2]
    assert [row["weight"] for row in rows][::2] == [0, 0]
    for row in rows:
        chosen = [*itertools.combinations(range(SEEDS), row["models"])]
        for column, condition in ("test", ""), ("validation", ",validate=True"):
            must = sum(losses(mixed, condition, x, row["weight"]) for x in chosen) / len(chosen)
            assert row[column] == pytest.approx(must, abs=2e-6)


def test_the_weight_is_the_best_on_the_validation_set(mixed):
    for row in read_table(mixed.root, "ensemble.csv")[1::2]:
        chosen = [*itertools.combinations(range(SEEDS), row["models"])]
        tried = {
            weight: sum(losses(mixed, ",validate=True", x, weight) for x in chosen)
            for weight in (0.0, 0.3, 0.6)
        }
        assert row["weight"] == min(tried, key=tried.get) > 0


def test_a_run_that_is_lacking_is_named(mixed):
    with pytest.raises(Failure, match=f"{LAST},validate=True-seed2.pt"):
        ensemble.main([LAST, "--seeds", str(SEEDS + 1)], mixed.root)
