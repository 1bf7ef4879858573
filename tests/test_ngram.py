"""Counting: probabilities, their exact losses, and a choice made without the test split."""

import random
import sys

import pytest
from common import ROOT
from tools import miniature

sys.path.insert(0, str(ROOT / "results"))

import ngram
from lib.tables import read_table
from ngram import END, Bigram, KneserNey

NAMES = ["anna", "ann", "hanna", "bea", "anna", "b"]
CHARS = sorted(set("".join(NAMES)))
MODELS = {
    "bigram": Bigram(NAMES, CHARS),
    **{f"context {n}": KneserNey(NAMES, CHARS, n, 0.7) for n in (1, 2, 3, 5)},
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_probabilities_add_up_to_one_after_every_history(model):
    rng = random.Random(1)
    seen = [name[:i] for name in NAMES for i in range(len(name) + 1)]
    others = ["".join(rng.choices(CHARS, k=rng.randint(1, 8))) for _ in range(50)]
    for history in seen + others:
        shares = [model.probability(END + history, char) for char in [*CHARS, END]]
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1)


def test_the_bigram_counts_every_pair_once_more_than_it_occurs():
    pairs = [pair for name in NAMES for pair in zip(END + name, name + END, strict=True)]
    after_n = [pair for pair in pairs if pair[0] == "n"]
    expected = (after_n.count(("n", "a")) + 1) / (len(after_n) + len(CHARS) + 1)
    assert MODELS["bigram"].probability(END + "an", "a") == pytest.approx(expected)


def kneser_ney(history, char, length, discount=0.7, longest=3):
    """The textbook's recursion from what occurs: (all that precedes, character) of every place."""
    places = [(END + name[:i], next) for name in NAMES for i, next in enumerate(name + END)]
    context = history[len(history) - length :]
    after = [(before, next) for before, next in places if before.endswith(context)]
    if length < longest and not context.startswith(END):
        # A shorter context counts the kinds of one character more to the left, not the places.
        after = {(before[-length - 1 :], next) for before, next in after if len(before) > length}
    follow = [next for _, next in after]
    shorter = kneser_ney(history, char, length - 1) if length else 1 / (len(CHARS) + 1)
    if not follow:
        return shorter
    left = discount * len(set(follow)) / len(follow)
    return max(follow.count(char) - discount, 0) / len(follow) + left * shorter


@pytest.mark.parametrize("history", ["", "a", "an", "ann", "hann", "be", "xyz", "bann"])
def test_kneser_ney_is_the_textbooks(history):
    model = MODELS["context 3"]
    for char in [*CHARS, END]:
        expected = kneser_ney(END + history, char, min(3, len(END + history)))
        assert model.probability(END + history, char) == pytest.approx(expected)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(ngram, "CONTEXTS", (2, 3))
    monkeypatch.setattr(ngram, "DISCOUNTS", (0.5, 0.9))
    return miniature(tmp_path / "project")


def test_the_table_has_the_exact_losses_and_the_page_shows_them(project):
    ngram.main([], project.root)
    module = project.steps["train-2"].module
    data = module.load_data(None, module.Config(), "cpu")
    bigram, _ = read_table(project.root, "ngram.csv")
    model = Bigram(data.train_items, data.chars)
    found = [ngram.losses(model, [name])[0] for name in data.test_items]
    letters = [loss for losses in found for loss in losses]
    later = [loss for losses in found for loss in losses[1:]]
    assert len(letters) == sum(len(name) + 1 for name in data.test_items)
    assert bigram["test"] == pytest.approx(sum(letters) / len(letters), abs=1e-6)
    assert bigram["test_from_2nd"] == pytest.approx(sum(later) / len(later), abs=1e-6)
    assert f"| bigram (add-one) | – | – | – | – | {bigram['train']:.4f} |" in project.block(
        "comparison"
    )


def test_the_choice_does_not_see_the_test_split(project, monkeypatch):
    module = project.steps["train-2"].module
    seen = []
    monkeypatch.setattr(ngram, "losses", lambda model, names: seen.extend(names) or [[1.0]])
    ngram.choose(module, [(2, 0.5)])
    data = module.load_data(None, module.Config(), "cpu")
    last_tenth = data.train_items[len(data.train_items) - len(data.train_items) // 10 :]
    assert seen == last_tenth
