"""Loss, evaluation, learning rate, the loop, sampling."""

import math
import re
import time
from types import SimpleNamespace

import common
import pytest
import torch
from common import load

BASE, LAST = "train-2-baseline.py", "train-2.py"  # Training and Sampling are the same in all eight


def run_of(module, path, **settings):
    """Config, data and a new model, as main() makes them."""
    config = module.Config(**settings)
    data = module.load_data(path, config, "cpu")
    return config, data, module.make_model(config, data, "cpu")


def losses_by_hand(model, data, items):
    """For every name its losses, one name at a time and in double precision."""
    result = []
    for item in items:
        tokens = [1, *(data.chars.index(char) + 2 for char in item), 1]
        with torch.no_grad():
            logits = model(torch.tensor([tokens[:-1]]))[0].double()  # (T, vocab_size)
        rows = zip(logits, tokens[1:], strict=True)
        result.append([(row.exp().sum().log() - row[target]).item() for row, target in rows])
    return result


def mean(lists):
    return sum(map(sum, lists)) / sum(map(len, lists))


@pytest.mark.parametrize("short, long", [(600, 0), (40, 50)])
def test_the_final_losses_are_exact(short, long, tmp_path):
    """Over every name of a split, each by itself, however they are grouped to evaluate them."""
    module, path = load(LAST), tmp_path / "names.txt"
    lines = [f"{chr(97 + i % 9)}{i % 17}ab"[: 2 + i % 3] for i in range(short)]
    lines += ["xyz"[i % 3] * (200 + i) for i in range(long)] + ["a", "bb", "ann"] * 5
    path.write_text("\n".join(lines))
    _, data, model = run_of(module, path, n_layer=1)
    train = losses_by_hand(model, data, data.train_items)
    test = losses_by_hand(model, data, data.test_items)
    new = [x for x, item in zip(test, data.test_items, strict=True) if item not in data.train_items]
    expected = {
        "train": mean(train),
        "test": mean(test),
        "test_from_2nd": mean([losses[1:] for losses in test]),
        "test_unseen": mean(new) if new else None,
    }
    losses = module.final_losses(model, data)
    assert losses == pytest.approx(expected, abs=2e-6)
    assert len(set(losses.values())) == 4  # they can be told apart
    each = module.token_losses(model, data.train)
    assert each.shape == (len(train), data.max_len)
    for row, own in zip(each.tolist(), train, strict=True):
        assert row[: len(own)] == pytest.approx(own, abs=1e-5) and not any(row[len(own) :])


def test_the_curve_is_of_the_first_1000_training_names_and_all_test_names(go, names):
    """The row is of all names of both."""
    names.write_text("".join(f"{'abcde'[i % 5]}{i % 7}{i % 11}\n" for i in range(5500)))
    module = load(BASE)
    done = go(module)
    (row,) = common.read_table(done.table)
    state = common.checkpoint(done.results)
    _, data, model = run_of(module, names)
    model.load_state_dict(state["model"])
    assert len(data.test) > 1000
    step, train, test = state["curve"][-1]
    assert (step, f"{test:.6f}") == (4, row["test"])
    assert train == pytest.approx(
        mean(losses_by_hand(model, data, data.train_items[:1000])), abs=2e-6
    )
    assert f"{train:.6f}" != row["train"] == f"{module.final_losses(model, data)['train']:.6f}"


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_a_model_is_left_as_it_was(training, names):
    """So sampling or evaluating in the loop does not switch dropout off, nor on."""
    module = load(LAST)
    _, data, model = run_of(module, names, dropout=0.5)
    _, _, plain = run_of(module, names)
    model.train(training)
    before = torch.get_rng_state()
    losses = module.token_losses(model, data.test)
    assert model.training == model.layers[0].mlp.dropout.training == training
    drawn = module.generate(model, data, 9, torch.Generator().manual_seed(3))
    assert model.training == model.layers[0].mlp.dropout.training == training
    assert torch.equal(torch.get_rng_state(), before)  # neither draws for dropout
    assert torch.equal(losses, module.token_losses(plain, data.test))
    assert drawn == module.generate(plain, data, 9, torch.Generator().manual_seed(3))


def test_learning_rate():
    """Its landmarks: start, end of the warm-up, along the cosine, the end."""
    module = load(LAST)

    def rates(steps=1000, **settings):
        config = module.Config(steps=steps, **settings)
        return [module.learning_rate(step, config) for step in range(steps)]

    assert rates() == [1e-3] * 1000
    cosine = rates(lr_decay_to=0.1)
    quarter = 1e-4 + 0.9e-3 * (1 + math.cos(math.pi / 4)) / 2
    assert [cosine[0], cosine[250], cosine[500]] == pytest.approx([1e-3, quarter, 0.55e-3])
    assert 1e-4 < cosine[-1] < 1.01e-4
    both = rates(lr_decay_to=0, warmup_steps=200)
    assert both[:2] == pytest.approx([0.5e-5, 1e-5])
    assert [both[100], both[199], both[200]] == pytest.approx([0.505e-3, 1e-3, 1e-3])
    assert both[600] == pytest.approx(0.5e-3) and 0 < both[-1] < 1e-8
    assert both[200:] == sorted(both[200:], reverse=True)
    assert rates(warmup_steps=5000)[-1] == pytest.approx(0.2e-3)  # longer than the run


@pytest.mark.parametrize("clip", [0, 0.2])
def test_training_is_adamw_on_the_masked_loss_of_the_batches(clip, go, names):
    """Computed step by step: the same weights after four steps, with warm-up and weight decay."""
    torch.set_default_dtype(torch.float64)  # so that the order of additions makes no difference
    module = load("train-2-2head.py")
    given = {"learning_rate": 0.01, "weight_decay": 0.1, "grad_clip": clip, "warmup_steps": 2}
    config, data, model = run_of(module, names, steps=4, batch_size=8, **given)
    values = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(values.values(), weight_decay=0.1)
    for t, rows in enumerate(module.draw_batches(data, config)[0]):
        tokens = data.train[rows]
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        chosen = model(inputs).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        gradients = torch.autograd.grad(-chosen[targets != 0].mean(), values.values())
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        assert norm > 0.2
        for p, gradient in zip(values.values(), gradients, strict=True):
            p.grad = gradient * clip / norm if clip else gradient
        optimizer.param_groups[0]["lr"] = 0.005 if t == 0 else 0.01
        optimizer.step()
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    trained = common.checkpoint(go("train-2-2head.py", *flags).results)["model"]
    for name, p in values.items():
        assert torch.allclose(trained[name], p, rtol=0, atol=1e-7), name


def test_one_seed_gives_one_run(go):
    """To the bit, dropout included; another seed gives other batches, weights, losses and names."""
    runs = ((3, "a"), (3, "b"), (4, "c"))
    a, b, c = (go(LAST, "--seed", seed, "--dropout=.1", results=x).results for seed, x in runs)
    common.assert_twins(a, b)
    (row,), (other,) = (common.read_table(folder / "results.csv") for folder in (a, c))
    differing = {key for key in row if row[key] != other[key]} - set(common.TIMES)
    losses = {"train", "test", "test_from_2nd", "test_unseen"}
    assert differing == losses | {"seed", "samples", "settings", "curve"}


def test_what_a_run_prints(go):
    """What it trains on, then a line per evaluation, which stays, with names of the model's own."""
    done = go(LAST, "--steps=7", "--eval-interval=3")
    lines = done.out.splitlines()
    assert re.findall(r"\d+|^\S+:", lines[0]) == ["small.txt:", "60", "7", "9"]
    steps = [line for line in lines if line.startswith("step ")]
    curve = common.checkpoint(done.results)["curve"]
    assert [step for step, *_ in curve] == [3, 6, 7]
    for line, (step, train, test) in zip(steps, curve, strict=True):
        words = rf"step +{step}  train {train:.4f}  test {test:.4f} +\S+ ms/step +\d+ s left(.+)"
        drawn = re.fullmatch(words, line)[1].split()
        assert 2 <= len(drawn) <= 3 and set("".join(drawn)) <= set("abcdeimno")
    assert "\r" not in done.out


@pytest.mark.parametrize("before", [0, 4])
def test_the_clock_counts_training_alone(before, go, monkeypatch):
    """What the device still computes is training; evaluating, sampling and saving are not.

    Here a step takes 1 s, the device 0.25 s more until it is waited for, everything else 100 s. The
    pace and the time left are those of the whole run, also where a part of it is resumed.
    """
    module, now, late, stop = load(BASE), 0.0, 0.0, before

    def learning_rate(step, config):
        nonlocal now, late, stop
        if stop and step == stop:
            stop = None
            raise KeyboardInterrupt
        now, late = now + 1, late + 0.25
        return config.learning_rate

    def synchronize():
        nonlocal now, late
        now, late = now + late, 0.0

    def later(name):
        function = getattr(module, name)

        def slow(*args, **options):
            nonlocal now
            now += 100
            return function(*args, **options)

        monkeypatch.setattr(module, name, slow)

    for name in ("load_data", "token_losses", "generate", "save_checkpoint", "final_losses"):
        later(name)
    watch = SimpleNamespace(perf_counter=lambda: now, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(module, "time", watch)
    monkeypatch.setattr(module, "learning_rate", learning_rate)
    monkeypatch.setattr(torch.cpu, "synchronize", synchronize)
    if before:
        with pytest.raises(KeyboardInterrupt):
            go(module, "--steps=7")
    done = go(module, "--steps=7", "--resume")
    said = re.findall(r"^step +(\d+) .* ([\d.]+) ms/step +(\d+) s left", done.out, re.M)
    at = [step for step in (2, 4, 6, 7) if step > before]
    assert said == [(str(step), "1250.00", f"{1.25 * (7 - step):.0f}") for step in at]
    (row,) = common.read_table(done.table)
    assert row["seconds"] == f"{1.25 * 7:.6f}"


def test_every_script_learns(step, go):
    done = go(step, "--steps=40", "--eval-interval=20", "--learning-rate=0.01")
    curve = common.checkpoint(done.results)["curve"]
    train = [loss for _, loss, _ in curve]
    assert train[-1] < train[0] < math.log(11) - 0.1  # which is that of a guess


def test_a_loss_that_is_not_finite_ends_the_run_without_a_row(go):
    """One line that says when and what to try; the next evaluation never comes."""
    done = go(LAST, "--learning-rate", 2**31 - 1, "--eval-interval", 1)
    message = common.one_error(done.err)
    assert done.status == 1 and "not finite" in message and "--learning-rate" in message
    evaluated = re.findall("^step ", done.out, re.M)
    assert len(evaluated) == int(re.search(r"step (\d+)", message)[1]) - 1
    assert common.read_table(done.table) == []


def draw(shares, num=50, seed=0, max_len=6, **options):
    """Names by a model whose next token depends on the last one: {token: {next token: share}}."""
    table = torch.zeros(4, 4)
    for token, row in shares.items():
        table[token, list(row)] = torch.tensor([*row.values()], dtype=torch.float32)
    model = torch.nn.Embedding(4, 4, _weight=table.log())
    data = SimpleNamespace(chars=["a", "b"], max_len=max_len)  # tokens 2 and 3
    generator = torch.Generator().manual_seed(seed)
    return load(LAST).generate(model, data, num, generator, **options)


SHARES = {1: {2: 1 / 2, 3: 1 / 4, 1: 1 / 4}, 2: {1: 1}, 3: {3: 1 / 2, 1: 1 / 2}}


def test_a_name_ends_at_the_boundary_or_at_the_longest_and_holds_no_pad():
    """It stops when all names have ended, however long the longest name of the data is."""
    assert draw({1: {2: 1}, 2: {3: 1}, 3: {1: 1}}, max_len=10**9) == ["ab"] * 50
    assert draw({1: {0: 0.9, 3: 0.1}, 3: {0: 0.9, 3: 0.1}}) == ["bbbbb"] * 50
    assert draw({1: {1: 1}}) == [""] * 50


def test_names_are_drawn_with_the_models_probabilities():
    """Nothing but the generator is random."""
    drawn = draw(SHARES, num=4000)
    assert set(drawn) == {"a", "", "b", "bb", "bbb", "bbbb", "bbbbb"}
    for name, share in (("a", 1 / 2), ("", 1 / 4), ("b", 1 / 8), ("bbbbb", 1 / 64)):
        assert abs(drawn.count(name) / 4000 - share) < 5 * math.sqrt(share / 4000), name
    torch.manual_seed(5)
    assert draw(SHARES, num=4000) == drawn != draw(SHARES, num=4000, seed=1)


def test_prompt_temperature_and_top_k():
    """PAD, which is never drawn, is not among the k likeliest; any k is allowed."""
    assert set(draw(SHARES, num=200, prompt="ab")) == {"ab", "abb", "abbb", "abbbb"}
    assert draw(SHARES, prompt="bbbbb") == ["bbbbb"] * 50  # as long as a name can be
    cold, plain, hot = (draw(SHARES, num=2000, temperature=t).count("a") for t in (0.1, 1, 3))
    assert cold > 1900 > 1200 > plain > 800 > hot
    shares = {1: {0: 0.7, 2: 0.15, 3: 0.1, 1: 0.05}, 2: {1: 1}, 3: {1: 1}}
    for k, expected in ((1, {"a"}), (2, {"a", "b"}), (3, {"a", "b", ""}), (9, {"a", "b", ""})):
        assert set(draw(shares, num=500, top_k=k)) == expected
    assert draw(shares, top_k=4) == draw(shares, top_k=99) == draw(shares)
