"""The ideas that distill: teachers, what they say, drawn names, n-grams, and --resume."""

import math

import common
import pytest
import torch
from common import ROOT, load
from lib.checkpoints import trained
from lib.command import Failure
from lib.ngrams import END, KneserNey
from lib.patches import applied
from lib.steps import find_steps
from lib.tables import Condition

LONG = "--steps 6 --eval-interval 3 --n-layer 1 --dropout 0.2 --teachers 2".split()


@pytest.fixture(scope="module")
def folder():
    with applied(ROOT) as folder:
        yield folder


@pytest.fixture(scope="module")
def module(folder):
    return load(folder / "train-2-distilled-ngram.py")


@pytest.fixture(scope="module")
def drawn(folder):
    return load(folder / "train-2-distilled-drawn.py")


@pytest.fixture
def data(module, names):
    return module.load_data(names, module.Config(), "cpu")


def test_the_teachers_are_what_the_script_below_makes_of_their_seeds(folder, go):
    """To the bit; the student has a seed and hyperparameters of its own."""
    module, own = load(folder / "train-2-distilled.py"), ["--student-dropout", 0.5, "--seed", 1]
    state = common.checkpoint(go(module, *LONG, *own).results)
    for number, weights in enumerate(state["teachers"]):
        alone = [x for x in LONG if x not in ("--teachers", "2")]
        seed = 3 * 1 + number
        done = go(load(folder / "train-2-modern.py"), *alone, "--seed", seed, results=f"r{seed}")
        assert common.same(weights, common.checkpoint(done.results)["model"])
    assert len(state["teachers"]) == 2
    assert not any(common.same(state["model"], weights) for weights in state["teachers"])


@pytest.mark.parametrize("idea", ["ngram", "drawn"])
def test_a_run_that_was_stopped_in_any_phase_goes_on(idea, folder, go, monkeypatch):
    """In the first teacher, in the second, in the student, and when all is done."""
    module = load(folder / f"train-2-distilled-{idea}.py")
    words = [*LONG, "--student-dropout", "0.1"]
    twin = go(module, *words, results="twin").results
    count, rate = 0, module.learning_rate

    def stop(step, config):
        nonlocal count
        count += 1
        if count % 5 == 0:
            raise KeyboardInterrupt
        return rate(step, config)

    monkeypatch.setattr(module, "learning_rate", stop)
    for _ in range(20):
        try:
            done = go(module, *words, "--resume")
            break
        except KeyboardInterrupt:
            pass
    assert count > 3 * 6, "it was stopped"
    common.assert_twins(done.results, twin)
    before = common.tree(done.results)
    go(module, *words, "--resume")
    assert common.tree(done.results) == before


def test_a_run_without_all_its_teachers_is_unfinished(folder, go, names):
    """However many steps its last model has: the commands refuse its checkpoint."""
    done = go(load(folder / "train-2-distilled.py"), *LONG, small=False)
    condition = Condition(*LONG, "--data", str(names))
    step = find_steps(ROOT, ["train-2-distilled"])["train-2-distilled"]
    (path,) = (done.results / "checkpoints").iterdir()
    path = path.rename(path.with_name(f"{step.run_name(0, condition.parse(step)[1])}.pt"))
    trained(step, 0, done.results, condition)
    state = torch.load(path, weights_only=True)
    torch.save(state | {"teachers": state["teachers"][:1]}, path)
    with pytest.raises(Failure, match="unfinished"):
        trained(step, 0, done.results, condition)


def test_what_is_taught_is_the_mean_and_where_it_counts(module, data):
    """The loss is the cross-entropy with it, over the targets that are not PAD."""
    models = [module.Transformer(module.Config(), len(data.chars) + 2, data.max_len).eval()]
    models.append(module.Transformer(module.Config(), len(data.chars) + 2, data.max_len).eval())
    taught = module.teach(models, data.train)
    inputs, targets = data.train[:, :-1], data.train[:, 1:]
    means = sum(model(inputs).softmax(dim=-1) for model in models) / 2
    real = targets != module.PAD
    assert torch.allclose(taught[real], means[real], atol=1e-6)
    assert (taught[~real] == 0).all()
    logits = torch.randn_like(taught)
    each = -(taught * logits.log_softmax(dim=-1)).sum(dim=-1)
    assert module.taught_loss(logits, taught).item() == pytest.approx(each[real].mean().item())


def test_drawn_names_are_names(drawn, data):
    """A boundary at both ends, characters between, then PAD: like those of the model."""
    torch.manual_seed(0)
    model = drawn.Transformer(drawn.Config(), len(data.chars) + 2, data.max_len).eval()
    draws = [drawn.draw_names(model, 300, data.max_len, torch.manual_seed(0)) for _ in range(2)]
    assert torch.equal(*draws) and draws[0].shape == (300, data.max_len + 1)
    lengths = set()
    for row in draws[0].tolist():
        end = row.index(drawn.BOUNDARY, 1)
        assert row[0] == drawn.BOUNDARY and min(row[1 : end + 1]) > 0 and not any(row[end + 1 :])
        lengths.add(end)
    assert len(lengths) > 3 and max(lengths) == data.max_len
    first = torch.tensor([row[1] for row in draws[0].tolist()]).bincount(
        minlength=len(data.chars) + 2
    )
    logits = model(draws[0][:1, :1])[0, 0]
    logits[drawn.PAD] = -math.inf
    assert (first / 300 - logits.softmax(dim=0)).abs().max() < 0.1


def test_its_n_grams_are_those_of_the_baseline_without_the_name(module, data):
    """Those of the names outside its tenth, also after contexts that these lack."""
    taught = module.count_elsewhere(data.train, len(data.chars) + 2)
    numbers = torch.arange(len(data.train)).tensor_split(10)
    for tenth in map(torch.Tensor.tolist, numbers):
        others = [name for i, name in enumerate(data.train_items) if i not in tenth]
        counted = KneserNey(others, data.chars, 5, 0.85)
        for i in tenth:
            name = data.train_items[i]
            for place in range(len(name) + 1):
                history = END + name[:place]
                must = [counted.probability(history, x) for x in (END, *data.chars)]
                assert taught[i, place].tolist() == pytest.approx([0, *must], abs=1e-6)
            assert not taught[i, len(name) + 1 :].any()
