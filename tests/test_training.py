"""Loss, evaluation, learning rate, the loop, sampling; whole runs from end to end."""

import hashlib
import json
import math
import re
import types

import common
import pytest
import torch
from common import CHAIN, COLUMNS, ROOT, load


def run_of(module, path, seed=0, **knobs):
    """Config, data and a new model, as main() makes them."""
    config = module.Config(seed=seed, **knobs)
    data = module.load_data(path, config, "cpu")
    torch.manual_seed(seed)
    return config, data, module.Transformer(config, len(data.chars) + 2, data.max_len)


def losses_by_hand(model, data, items):
    """For every item its losses, one name at a time and in double precision."""
    result = []
    for item in items:
        tokens = [1, *(data.chars.index(char) + 2 for char in item), 1]
        with torch.no_grad():
            logits = model(torch.tensor([tokens[:-1]]))[0].double()  # (T, vocab_size)
        scores = zip(logits, tokens[1:], strict=True)
        result.append([(row.exp().sum().log() - row[target]).item() for row, target in scores])
    return result


def mean(lists):
    return sum(map(sum, lists)) / sum(map(len, lists))


def test_the_final_losses_are_exact(script):
    """Over every name of a split, each by itself, all its targets up to the closing boundary."""
    module = load(script)
    _, data, model = run_of(module, ROOT / "data" / "sample-names.txt")
    repeated = data.train_items[:50]  # some test names were trained on
    data.train_items, data.train = data.train_items[:300], data.train[:300]
    data.test_items = data.test_items[:200] + repeated
    data.test = torch.cat([data.test[:200], data.train[:50]])
    with torch.no_grad():
        for p in (model.tok_emb.weight, model.lm_head.weight):
            p.add_(torch.randn_like(p), alpha=0.3)  # away from a guess
    train = losses_by_hand(model, data, data.train_items)
    test = losses_by_hand(model, data, data.test_items)
    expected = {
        "train": mean(train),
        "test": mean(test),
        "test_from_2nd": mean([losses[1:] for losses in test]),
        "test_unseen": mean(test[:200]),
    }
    assert module.final_losses(model, data) == pytest.approx(expected, abs=2e-6)
    assert len({round(loss, 4) for loss in expected.values()}) == 4  # they can be told apart


def test_where_every_test_name_was_trained_on_test_unseen_is_blank(go, names):
    names.write_text("ab\n" * 10)
    (row,) = common.read_table(go("train-2-baseline.py").table)
    assert row["test_unseen"] == "" and float(row["test"]) > 0


def test_the_curve_may_use_a_part_of_the_training_split_and_the_row_may_not(go):
    done = go("train-2-2head.py", data=ROOT / "data" / "sample-names.txt")
    (row,) = common.read_table(done.table)
    module = load("train-2-2head.py")
    _, data, model = run_of(module, ROOT / "data" / "sample-names.txt")
    model.load_state_dict(common.checkpoint(done.results)["model"])
    losses = losses_by_hand(model, data, data.train_items)
    assert len(losses) > 1000
    assert float(row["train"]) == pytest.approx(mean(losses), abs=2e-6)
    (curve,) = done.results.glob("curves/*.csv")
    step, train, test = curve.read_text().splitlines()[-1].split(",")
    assert (step, test) == ("4", row["test"])
    assert float(train) == pytest.approx(mean(losses[:1000]), abs=2e-6)


def test_learning_rate():
    """Its landmarks: start, end of the warm-up, half-way down the cosine, the end."""
    module = load("train-2.py")

    def rates(steps=1000, **knobs):
        config = module.Config(steps=steps, **knobs)
        return [module.learning_rate(step, config) for step in range(steps)]

    assert rates() == [1e-3] * 1000
    warm = rates(warmup_steps=100, learning_rate=0.01)
    assert warm[:3] == pytest.approx([0.0001, 0.0002, 0.0003])
    assert warm[99:] == pytest.approx([0.01] * 901)
    cosine = rates(lr_decay_to=0.1)
    quarter = 1e-4 + 0.9e-3 * (1 + math.cos(math.pi / 4)) / 2
    assert [cosine[0], cosine[250], cosine[500]] == pytest.approx([1e-3, quarter, 0.55e-3])
    assert 1e-4 < cosine[-1] < 1.01e-4
    both = rates(lr_decay_to=0, warmup_steps=200)
    assert [both[100], both[199], both[200]] == pytest.approx([0.505e-3, 1e-3, 1e-3])
    assert both[600] == pytest.approx(0.5e-3) and 0 < both[-1] < 1e-8
    assert both[200:] == sorted(both[200:], reverse=True)
    assert rates(warmup_steps=5000)[-1] == pytest.approx(0.2e-3)  # longer than the run
    assert rates(steps=1, warmup_steps=1) == [1e-3]


def weights(go, *argv, script="train-2.py"):
    """The weights that a small run ends with."""
    done = go(script, *argv, results="weights")
    assert done.status == 0, done.err
    model = common.checkpoint(done.results)["model"]
    for path in done.results.glob("checkpoints/*.pt"):
        path.unlink()
    return model


ACT = "--learning-rate 0.002, --lr-decay-to 0.5, --warmup-steps 3, --weight-decay 0.5, --seed 1"
ACT += ", --grad-clip 0.01, --batch-size 9, --dropout 0.2, --n-layer 3, --validate, --steps 5"


@pytest.mark.parametrize("flags", ACT.split(", "))
def test_every_knob_of_training_acts(flags, go):
    assert not common.same(weights(go), weights(go, *flags.split()))


DO_NOT = "--eval-interval 1, --eval-interval 100, --grad-clip 1000, --lr-decay-to 1, --debug"


@pytest.mark.parametrize("flags", DO_NOT.split(", "))
def test_what_changes_no_weights(flags, go):
    """With dropout: an evaluation neither draws from its generator nor leaves the wrong mode."""
    expected = weights(go, "--dropout", 0.2)
    assert common.same(expected, weights(go, "--dropout", 0.2, *flags.split()))


def test_training_is_adamw_on_the_masked_loss_of_the_batches(go, names):
    """Written out: the same weights after four steps."""
    module = load("train-2-2head.py")
    knobs = {"learning_rate": 0.01, "weight_decay": 0.1, "grad_clip": 0.5, "warmup_steps": 2}
    config, data, model = run_of(module, names, steps=4, batch_size=8, **knobs)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.999), weight_decay=0.1)
    for step, rows in enumerate(module.draw_batches(data, config)[0]):
        tokens = data.train[rows]
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        chosen = model(inputs).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        optimizer.zero_grad()
        (-chosen[targets != 0].mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.param_groups[0]["lr"] = [0.005, 0.01, 0.01, 0.01][step]
        optimizer.step()
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in knobs.items()]
    trained = weights(go, *flags, script="train-2-2head.py")
    for key, value in model.state_dict().items():
        assert torch.allclose(trained[key], value, rtol=0, atol=1e-6), key


def test_the_loss_falls(script, go):
    flags = ["--steps", 60, "--eval-interval", 20, "--learning-rate", 0.01, "--batch-size", 16]
    state = common.checkpoint(go(script, *flags, small=False).results)
    assert [step for step, _, _ in state["curve"]] == [20, 40, 60]
    train = [loss for _, loss, _ in state["curve"]]
    assert train == sorted(train, reverse=True) and train[-1] < train[0] - 0.1


@pytest.mark.parametrize("name", ["train-2-baseline.py", "train-2-2head-4layer.py", "train-2.py"])
def test_a_loss_that_is_not_finite_ends_the_run_without_a_row(name, go):
    """One line that says when and what to try, status 1; the next evaluation never comes."""
    done = go(name, "--learning-rate", 2**31 - 1, "--steps", 9, "--eval-interval", 3)
    message = common.one_error(done.err)
    assert done.status == 1 and "not finite" in message and "--learning-rate" in message
    failed_at = int(re.search(r"step (\d+)", message)[1])
    assert failed_at % 3 == 0
    assert len(re.findall("^step ", done.out, re.M)) == failed_at // 3 - 1
    assert not done.table.exists() and not list(done.results.glob("curves/*"))


def test_end_to_end(script, go, names):
    """The row, the curve, the checkpoint and the screen tell of one and the same run."""
    module = load(script)
    done = go(script)
    assert (done.status, done.err) == (0, "")
    (row,) = common.read_table(done.table)
    config, data, model = run_of(module, names, steps=4, eval_interval=2, batch_size=8)
    blank = {"preset"} if module.BUILDS_ON else {"preset", "builds_on"}
    assert {key for key, value in row.items() if value == ""} == blank
    expected = {
        "script": script.name,
        "label": module.LABEL,
        "builds_on": module.BUILDS_ON or "",
        "overrides": "batch_size=8 eval_interval=2 steps=4",
        "data": "small.txt",
        "data_hash": hashlib.sha256(names.read_bytes()).hexdigest()[:12],
        "seed": "0",
        "steps": "4",
        "threads": "1",
        "torch": torch.__version__,
        "source": module.source_hash(),
    }
    assert {key: row[key] for key in expected} == expected
    assert json.loads(row["settings"]) == vars(config)
    for key in ("train", "test", "test_from_2nd", "test_unseen", "seconds", "ms_per_step"):
        assert re.fullmatch(r"\d+\.\d{6}", row[key]), key
    assert float(row["ms_per_step"]) == pytest.approx(250 * float(row["seconds"]), abs=1e-3)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["finished"])
    assert re.fullmatch(r"cpu \(.*\)", row["device"])
    samples = json.loads(row["samples"])
    assert len(samples) == 10 and set("".join(samples)) <= set(data.chars)

    state = common.checkpoint(done.results)
    model.load_state_dict(state["model"])
    assert sum(p.numel() for p in model.parameters()) == int(row["params"])
    losses = module.final_losses(model, data)
    assert {key: f"{loss:.6f}" for key, loss in losses.items()} == {key: row[key] for key in losses}
    assert module.generate(model, data, 10, torch.Generator().manual_seed(0)) == samples
    if script.name in CHAIN:
        shape = [int(row[key]) for key in ("n_embd", "head_size", "n_head", "n_layer")]
        assert shape == list(CHAIN[script.name][1:5])

    (curve,) = done.results.glob("curves/*.csv")
    header, *points = curve.read_text().splitlines()
    assert header == "step,train,test" and points[-1] == f"4,{row['train']},{row['test']}"
    progress = [line for line in done.out.splitlines() if line.startswith("step ")]
    for point, line in zip(points, progress, strict=True):
        step, train, test = point.split(",")
        assert re.match(rf"step +{step}  train {float(train):.4f}  test {float(test):.4f}", line)
        assert "ms/step" in line and "left" in line
    assert [point.split(",")[0] for point in points] == ["2", "4"]
    for name in samples:
        assert name in done.out


def test_one_seed_gives_one_run(step, go):
    """To the bit; another seed gives other batches, weights, losses and names."""
    knobs = ["--dropout", 0.1] if step.name == "train-2.py" else []
    a, b, c = (
        go(step, "--seed", seed, *knobs, results=folder).results
        for seed, folder in ((3, "a"), (3, "b"), (4, "c"))
    )
    common.assert_twins(a, b)
    (row,), (other,) = (common.read_table(folder / "results.csv") for folder in (a, c))
    differing = {key for key in COLUMNS if row[key] != other[key]}
    expected = {"seed", "train", "test", "test_from_2nd", "test_unseen", "samples", "settings"}
    assert differing - set(common.TIMES) == expected


class Rigged(torch.nn.Module):
    """A model whose next token depends on the last one alone: {token: {next token: share}}."""

    def __init__(self, vocab_size, shares):
        super().__init__()
        table = torch.zeros(vocab_size, vocab_size)
        for token, row in shares.items():
            for following, share in row.items():
                table[token, following] = share
        self.logits = torch.nn.Parameter(table.log())
        self.lengths = []

    def forward(self, tokens):
        self.lengths.append(tokens.size(1))
        return self.logits[tokens]


def draw(module, shares, num=50, seed=0, **options):
    data = types.SimpleNamespace(chars=["a", "b"], max_len=6)  # tokens 2 and 3, 5 letters at most
    generator = torch.Generator().manual_seed(seed)
    return module.generate(Rigged(4, shares), data, num, generator, **options)


def test_a_name_ends_at_the_boundary_or_at_the_longest_and_holds_no_pad(script):
    module = load(script)
    assert draw(module, {1: {2: 1}, 2: {3: 1}, 3: {1: 1}}) == ["ab"] * 50
    assert draw(module, {1: {0: 0.9, 3: 0.1}, 3: {0: 0.9, 3: 0.1}}) == ["bbbbb"] * 50
    assert draw(module, {1: {1: 1}}) == [""] * 50


SHARES = {1: {2: 1 / 2, 3: 1 / 4, 1: 1 / 4}, 2: {1: 1}, 3: {3: 1 / 2, 1: 1 / 2}}


def test_names_are_drawn_with_the_models_probabilities():
    """Each as often as it is likely; and the generator alone decides."""
    module = load("train-2.py")
    drawn = draw(module, SHARES, num=4000)
    assert set(drawn) == {"a", "", "b", "bb", "bbb", "bbbb", "bbbbb"}
    for name, share in (("a", 1 / 2), ("", 1 / 4), ("b", 1 / 8), ("bbbbb", 1 / 64)):
        assert abs(drawn.count(name) / 4000 - share) < 5 * math.sqrt(share / 4000), name
    torch.manual_seed(5)
    assert draw(module, SHARES, num=4000) == drawn != draw(module, SHARES, num=4000, seed=1)


def test_a_prompt_begins_every_name():
    drawn = draw(load("train-2.py"), SHARES, num=200, prompt="ab")
    assert set(drawn) == {"ab", "abb", "abbb", "abbbb"}


def test_a_low_temperature_prefers_the_likelier_names():
    module = load("train-2.py")
    cold, plain, hot = (
        draw(module, SHARES, num=2000, temperature=t).count("a") for t in (0.1, 1, 3)
    )
    assert cold > 1900 > 1200 > plain > 800 > hot


def test_sampling_ends_when_every_name_has():
    """Data with one very long item would otherwise keep it busy for hours."""
    module, model = load("train-2.py"), Rigged(4, {1: {2: 1}, 2: {3: 1}, 3: {1: 1}})
    data = types.SimpleNamespace(chars=["a", "b"], max_len=1000)
    module.generate(model, data, 4, torch.Generator())
    assert model.lengths == [1, 2, 3]
