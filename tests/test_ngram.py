"""Counting: probabilities, their exact losses, and a choice made without the test split."""

import sys
from types import SimpleNamespace

import pytest
from common import ROOT
from tools import miniature

sys.path.insert(0, str(ROOT / "results"))

import ngram
from lib import ngrams
from lib.command import Failure
from lib.ngrams import END, Bigram, KneserNey
from lib.tables import read_table, write_table

NAMES = ["anna", "ann", "hanna", "bea", "anna", "b"]
CHARS = sorted(set("".join(NAMES)))


def bigram(history, char):
    """Every pair counted once more than it occurs."""
    pairs = [pair for name in NAMES for pair in zip(END + name, name + END, strict=True)]
    after = [next for before, next in pairs if before == history[-1]]
    return (after.count(char) + 1) / (len(after) + len(CHARS) + 1)


def kneser_ney(history, char, length, longest):
    """The textbook's recursion from what occurs: (all that precedes, character) of every place."""
    places = [(END + name[:i], next) for name in NAMES for i, next in enumerate(name + END)]
    context = history[len(history) - length :]
    after = [(before, next) for before, next in places if before.endswith(context)]
    if length < longest and not context.startswith(END):
        # A shorter context counts the kinds of one character more to the left, not the places.
        after = {(before[-length - 1 :], next) for before, next in after if len(before) > length}
    follow = [next for _, next in after]
    shorter = kneser_ney(history, char, length - 1, longest) if length else 1 / (len(CHARS) + 1)
    if not follow:
        return shorter
    left = 0.7 * len(set(follow)) / len(follow)
    return max(follow.count(char) - 0.7, 0) / len(follow) + left * shorter


@pytest.mark.parametrize("longest", [None, 1, 2, 3, 5])
def test_probabilities_are_the_textbooks_and_add_up_to_one(longest):
    """After every history, whether it occurs or not."""
    model = KneserNey(NAMES, CHARS, longest, 0.7) if longest else Bigram(NAMES, CHARS)
    seen = [name[:i] for name in NAMES for i in range(len(name) + 1)]
    for history in (END + name for name in [*seen, "hann", "bann", "nnnnnnnn", "be", "xyz"]):
        shares = [model.probability(history, char) for char in [*CHARS, END]]
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1)
        for char, share in zip([*CHARS, END], shares, strict=True):
            length = min(longest or 0, len(history))
            must = kneser_ney(history, char, length, longest) if longest else bigram(history, char)
            assert share == pytest.approx(must)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(ngram, "GRID", [(2, 0.5), (2, 0.9), (3, 0.5), (3, 0.9)])
    return miniature(tmp_path / "project")


def test_the_table_has_the_exact_losses(project):
    ngram.main([], project.root)
    module = project.steps["train-2"].module
    data = module.load_data(None, module.Config(), "cpu")
    row, _ = read_table(project.root, "ngram.csv")
    model = Bigram(data.train_items, data.chars)
    found = [ngrams.losses(model, [name])[0] for name in data.test_items]
    letters = [loss for losses in found for loss in losses]
    later = [loss for losses in found for loss in losses[1:]]
    assert len(letters) == sum(len(name) + 1 for name in data.test_items)
    assert row["test"] == pytest.approx(sum(letters) / len(letters), abs=1e-6)
    assert row["test_from_2nd"] == pytest.approx(sum(later) / len(later), abs=1e-6)


def test_unseen_names_are_those_that_are_not_in_the_training_set():
    """Their loss is that of a list of theirs alone; where there are none, there is no loss."""
    model = Bigram(NAMES, CHARS)

    def figures(*test):
        return ngrams.evaluate(model, SimpleNamespace(train_items=NAMES, test_items=[*test]))

    found = figures("anna", "nab", "b", "ebb")
    assert found["test_unseen"] == figures("nab", "ebb")["test"] > found["test"]
    assert figures("anna", "bea")["test_unseen"] is None


def test_the_choice_is_the_lowest_loss_on_the_validation_set(project):
    module = project.steps["train-2"].module
    data = module.load_data(None, module.Config(validate=True), "cpu")
    grid = [(2, 0.9), (2, 0.1), (4, 0.5)]
    models = {given: KneserNey(data.train_items, data.chars, *given) for given in grid}
    found = {x: ngrams.evaluate(model, data)["test"] for x, model in models.items()}
    chosen = ngrams.choose(module, module.Config(), None, grid)
    assert found[chosen] == min(found.values()) < max(found.values())


def test_the_choice_does_not_see_the_test_split(project, monkeypatch):
    module = project.steps["train-2"].module
    seen = []
    monkeypatch.setattr(ngrams, "losses", lambda model, names: seen.extend(names) or [[1.0]])
    ngrams.choose(module, module.Config(), None, [(2, 0.5)])
    data = module.load_data(None, module.Config(), "cpu")
    last_tenth = data.train_items[len(data.train_items) - len(data.train_items) // 10 :]
    assert seen == last_tenth


def test_a_list_of_ones_own_has_its_rows_beside_those_of_names(project, tmp_path):
    """They are written once, and stay as they are when they are computed again."""
    path = tmp_path / "towns.txt"
    path.write_text("\n".join(f"{a}{b}{a}" for a in "abcdef" for b in "ghijkl"), "utf-8")
    with pytest.raises(Failure, match="for train-2, not for train-2,split_seed=1"):
        ngram.main(["train-2,split_seed=1"], project.root)
    for words in [], ["--data", str(path)]:
        ngram.main(words, project.root)
    rows = read_table(project.root, "ngram.csv")
    assert [row["data"] for row in rows] == ["names.txt"] * 2 + ["towns.txt"] * 2
    assert all(row["test"] > 0 and row["test_error"] > 0 for row in rows)
    write_table(project.root, "ngram.csv", [row | {"seconds": 60.0} for row in rows])
    before = (project.results / "ngram.csv").read_bytes()
    ngram.main([], project.root)
    assert (project.results / "ngram.csv").read_bytes() == before
