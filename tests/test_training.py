"""Loss, exact evaluation, learning rate, the loop, sampling; whole runs, end to end."""
import copy, csv, hashlib, json, math, os, random, re, sys, types

import pytest, torch

import common
from common import CHAIN, COLUMNS, ROOT, SMALL, load


class Table(torch.nn.Module):
    """A model whose next token depends on the last one alone, by fixed probabilities; it does not learn."""
    probabilities = {}  # {token: {next token: probability}}

    def __init__(self, config, vocab_size, max_len):
        super().__init__()
        logits = torch.full((vocab_size, vocab_size), -math.inf)
        for token, row in self.probabilities.items():
            for following, probability in row.items(): logits[token, following] = math.log(probability)
        self.register_buffer("logits", logits)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, tokens):
        return self.logits[tokens] + 0 * self.weight


def rig(module, monkeypatch, probabilities):
    monkeypatch.setattr(module, "Transformer", type("Rigged", (Table,), {"probabilities": probabilities}))


# Evaluation

def by_hand(model, items, chars):
    """Sums and counts of the losses of all tokens and of the first ones, one name at a time, in double precision."""
    model = copy.deepcopy(model).double().eval()
    total = first = count = 0
    for item in items:
        row = [1, *(chars.index(char) + 2 for char in item), 1]
        with torch.no_grad(): logits = model(torch.tensor([row[:-1]]))[0]
        losses = [math.log(logits[t].exp().sum().item()) - logits[t, row[t + 1]].item() for t in range(len(row) - 1)]
        total, first, count = total + sum(losses), first + losses[0], count + len(losses)
    return total, first, count


def test_evaluation_is_exact(script, monkeypatch):
    """More names than fit in one evaluation batch, each alone: the same mean, of all tokens and without the first."""
    module = load(script)
    data = module.load_data(str(ROOT / "data" / "sample-names.txt"), module.Config(), "cpu")
    rows, items = data.train[:600], data.train_items[:600]
    torch.manual_seed(0)
    model = module.Transformer(module.Config(), len(data.chars) + 2, data.max_len)
    with torch.no_grad():
        for p in model.parameters(): p.mul_(1.5)  # away from a uniform guess
    losses = module.token_losses(model, rows)
    assert losses.shape == (600, rows.size(1) - 1)
    assert torch.equal(losses != 0, rows[:, 1:] != 0)
    total, first, count = by_hand(model, items, data.chars)
    assert module.mean_loss(losses, rows) == pytest.approx(total / count, abs=2e-6)
    assert module.mean_loss(losses[:, 1:], rows[:, 1:]) == pytest.approx((total - first) / (count - 600), abs=2e-6)
    assert losses[:, 0].double().mean().item() == pytest.approx(first / 600, abs=2e-6)
    assert abs(total / count - losses[losses != 0].view(-1)[:100].mean().item()) > 1e-3  # no handful would do


def test_one_huge_item_does_not_change_the_others(ids_28):
    """Evaluation batches shrink as names get longer, down to a name at a time."""
    module = load("train-2-baseline.py")
    items = ["ab", "c", "defg"]
    torch.manual_seed(0)
    model = module.Transformer(module.Config(), 28, 9000)
    rows = ids_28.encode(items, 9000)
    assert torch.allclose(module.token_losses(model, rows)[:, :5], module.token_losses(model, ids_28.encode(items)), atol=1e-6)


def split_of(count):
    """Where the lines of a file of `count` lines go: (training positions, test positions), as DESIGN.md has it."""
    order = list(range(count))
    random.Random(42).shuffle(order)
    return order[:int(0.8 * count)], order[int(0.8 * count):]


def test_the_figures_of_a_hand_made_example(go, tmp_path, monkeypatch):
    """Ten names, two of them to test on, one of which is in the training split. Losses are multiples of ln 2.
    The first letter is a or b or c with 1/2, 1/4, 1/8; after a letter: the end 1/2, a 1/4, b 1/8, c 1/16."""
    train, test = split_of(10)
    items = dict(zip(test, ["ab", "c"])) | dict(zip(train, ["ab", "a", "a", "b", "b", "a", "a", "a"]))
    file = tmp_path / "hand.txt"
    file.write_text("\n".join(items[i] for i in range(10)))
    a, b, c, end = 2, 3, 4, 1
    after = {end: 1 / 2, a: 1 / 4, b: 1 / 8, c: 1 / 16, 0: 1 / 16}
    module = load("train-2-baseline.py")
    rig(module, monkeypatch, {0: after, end: {a: 1 / 2, b: 1 / 4, c: 1 / 8, end: 1 / 16, 0: 1 / 16},
                              a: after, b: after, c: after})
    done = go(module, data=file)
    assert (done.status, done.err) == (0, "")
    row, = common.read_table(done.table)
    # test: "ab" costs 1 + 3 + 1 bits for three tokens, "c" costs 3 + 1 for two; without the first letter 4 and 1
    # train: "ab" 5 bits, five times "a" 1 + 1, twice "b" 2 + 1: 21 bits for 3 + 10 + 4 tokens
    bit = math.log(2)
    expected = dict(test=9 / 5 * bit, test_from_2nd=5 / 3 * bit, test_unseen=4 / 2 * bit, train=21 / 17 * bit)
    for key, loss in expected.items():
        assert re.fullmatch(r"\d\.\d{6}", row[key]) and float(row[key]) == pytest.approx(loss, abs=1e-6), key
        line, = (line for line in done.out.splitlines() if line.startswith(key + " "))
        assert f"{loss:.4f}" in line and f"{math.exp(-loss):.3f}" in line  # and what that means as a probability
    curve = [line.split(",") for line in next(done.results.glob("curves/*")).read_text().splitlines()]
    assert curve == [["step", "train", "test"]] + [[str(step), row["train"], row["test"]] for step in (0, 2, 4)]


def test_test_unseen_is_blank_where_there_is_none(go, tmp_path):
    file = tmp_path / "hand.txt"
    file.write_text("ab\n" * 10)
    done = go("train-2-baseline.py", data=file)
    row, = common.read_table(done.table)
    assert row["test_unseen"] == "" and float(row["test"]) > 0
    assert not [line for line in done.out.splitlines() if line.startswith("test_unseen")]


def test_the_curve_may_use_a_part_of_the_training_split_but_the_row_may_not(go, tmp_path, monkeypatch):
    """1,250 names: the 1,000 training names are a, but for the last ones, which are b."""
    train, test = split_of(2500)
    file = tmp_path / "many.txt"
    kind = dict.fromkeys(test, "a") | {place: "b" if i >= 1900 else "a" for i, place in enumerate(train)}
    file.write_text("\n".join(kind[i] for i in range(2500)))
    module = load("train-2-baseline.py")
    rig(module, monkeypatch, {0: {2: 1}, 1: {2: 1 / 2, 3: 1 / 4, 1: 1 / 4}, 2: {1: 1}, 3: {1: 1 / 2, 2: 1 / 2}})
    row, = common.read_table(go(module, data=file).table)
    assert float(row["train"]) == pytest.approx((1900 + 3 * 100) / 4000 * math.log(2), abs=1e-6)
    assert float(row["test"]) == pytest.approx(math.log(2) / 2, abs=1e-6)


# Learning rate and the loop

def test_learning_rate():
    module = load("train-2.py")
    rates = lambda **knobs: [module.learning_rate(step, module.Config(steps=1000, **knobs)) for step in range(1000)]
    assert rates() == [1e-3] * 1000
    warm = rates(warmup_steps=100, learning_rate=0.01)
    assert warm[:3] == pytest.approx([0.0001, 0.0002, 0.0003]) and warm[99:] == pytest.approx([0.01] * 901)
    cosine = rates(lr_decay_to=0.1)
    assert cosine[0] == pytest.approx(1e-3) and cosine[500] == pytest.approx(0.55e-3)
    assert cosine[250] == pytest.approx(1e-4 + 0.9e-3 * (1 + math.cos(math.pi / 4)) / 2)
    assert 1e-4 < cosine[-1] < 1.01e-4
    both = rates(lr_decay_to=0, warmup_steps=200)
    assert both[100] == pytest.approx(0.505e-3) and both[199] == pytest.approx(1e-3) == both[200]
    assert both[600] == pytest.approx(0.5e-3) and 0 < both[-1] < 1e-8
    assert all(x > 0 for x in both) and both[200:] == sorted(both[200:], reverse=True)
    assert all(rate > 0 for rate in rates(warmup_steps=5000))  # longer than the run
    assert [module.learning_rate(0, module.Config(steps=1, warmup_steps=n)) for n in (0, 1)] == [1e-3] * 2


def weights(go, *argv, script="train-2.py", **options):
    done = go(script, *argv, results="weights", **options)
    assert done.status == 0, done.err
    path, = done.results.glob("checkpoints/*.pt")
    state = torch.load(path, weights_only=True)["model"]
    path.unlink()
    return state


@pytest.mark.parametrize("flags", [
    "--learning-rate 0.002", "--lr-decay-to 0.5", "--warmup-steps 3", "--weight-decay 0.5", "--grad-clip 0.01",
    "--batch-size 9", "--dropout 0.2", "--seed 1", "--n-layer 3", "--validate", "--steps 5"])
def test_every_knob_of_the_training_does_something(flags, go):
    assert not common.same(weights(go), weights(go, *flags.split()))


@pytest.mark.parametrize("flags", ["--eval-interval 1", "--eval-interval 100", "--grad-clip 1000", "--lr-decay-to 1",
                                   "--debug", "--device cpu"])
def test_what_changes_no_weights(flags, go):
    """Dropout is on: evaluating must not draw from its generator, nor leave the model in the wrong mode."""
    assert common.same(weights(go, "--dropout", 0.2), weights(go, "--dropout", 0.2, *flags.split()))


def test_training_is_adamw_on_the_masked_loss_of_the_batches(go, names):
    """Written out: the same weights after four steps."""
    module = load("train-2-2head.py")
    config = module.Config(steps=4, batch_size=8, learning_rate=0.01, weight_decay=0.1, grad_clip=0.5, warmup_steps=2,
                           lr_decay_to=0.3)
    data = module.load_data(str(names), config, "cpu")
    torch.manual_seed(0)
    model = module.Transformer(config, len(data.chars) + 2, data.max_len)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for step, (inputs, targets) in enumerate(module.batches(data, config)):
        for group in optimizer.param_groups: group["lr"] = module.learning_rate(step, config)
        optimizer.zero_grad()
        chosen = model(inputs).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        (-chosen[targets != 0].mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    flags = "--learning-rate 0.01 --weight-decay 0.1 --grad-clip 0.5 --warmup-steps 2 --lr-decay-to 0.3".split()
    trained = weights(go, *flags, script="train-2-2head.py")
    for key, value in model.state_dict().items():
        assert torch.allclose(trained[key], value, rtol=0, atol=1e-6), key


def test_training_learns(step, go):
    done = go(step, "--steps", 60, "--eval-interval", 30, "--learning-rate", 0.01, small=False)
    curve = [line.split(",") for line in next(done.results.glob("curves/*")).read_text().splitlines()[1:]]
    assert [int(point[0]) for point in curve] == [0, 30, 60]
    assert float(curve[0][1]) > float(curve[1][1]) > float(curve[2][1])


# Sampling

def test_generating_ends_when_every_name_has_ended(script, load, ids_28):
    """Data with one very long item would otherwise keep it busy for hours after the training."""
    module, lengths = load(script), []

    class Short(torch.nn.Linear):  # two letters, then the boundary
        def forward(self, tokens):
            lengths.append(tokens.size(1))
            logits = torch.zeros(*tokens.shape, 28)
            logits[..., 5 if tokens.size(1) < 3 else 1] = 1000
            return logits
    data = types.SimpleNamespace(chars=ids_28.chars, max_len=50)
    assert module.generate(Short(1, 1), data, 4, torch.Generator()) == ["dd"] * 4 and lengths == [1, 2, 3]


def test_generated_names_hold_no_pad_and_are_no_longer_than_the_longest(script, monkeypatch):
    module = load(script)
    data = type("Data", (), dict(max_len=6, chars=["a", "b"]))
    draw = lambda model, num=50, seed=0: module.generate(model, data, num, torch.Generator().manual_seed(seed))
    class Model(Table): probabilities = {0: {2: 1}, 1: {0: 0.9, 3: 0.1}, 2: {2: 1}, 3: {0: 0.9, 3: 0.1}}
    assert draw(Model(None, 4, 6)) == ["bbbbb"] * 50  # PAD is likely and never drawn; the longest name has 5
    class Model(Table): probabilities = {0: {2: 1}, 1: {2: 1}, 2: {3: 1}, 3: {1: 1}}
    assert draw(Model(None, 4, 6)) == ["ab"] * 50  # what comes after the end does not count
    class Model(Table): probabilities = {0: {2: 1}, 1: {2: 1 / 2, 3: 1 / 4, 1: 1 / 4}, 2: {1: 1}, 3: {3: 1 / 2, 1: 1 / 2}}
    model = Model(None, 4, 6)
    drawn = draw(model, 4000)
    assert set(drawn) == {"a", "", "b", "bb", "bbb", "bbbb", "bbbbb"}
    for name, share in (("a", 1 / 2), ("", 1 / 4), ("b", 1 / 8), ("bbbbb", 1 / 64)):
        assert abs(drawn.count(name) / 4000 - share) < 5 * math.sqrt(share / 4000)
    assert draw(model) == draw(model) != draw(model, seed=1)
    assert len(draw(model, 1)) == 1


def test_ten_names_of_which_those_in_the_training_split_are_marked(go, monkeypatch, names):
    module = load("train-2-baseline.py")
    config = module.Config()
    data = module.load_data(str(names), config, "cpu")
    known, new = data.train_items[0], "zzz"
    unseen = next(item for item in data.test_items if item not in data.train_items)
    generate, asked = module.generate, []
    monkeypatch.setattr(module, "generate", lambda model, data, num, generator: (
        asked.append(num), generate(model, data, num, generator), [known, new, unseen])[2])
    done = go(module)
    assert asked == [10]
    line, = (line for line in done.out.splitlines() if "zzz" in line)
    assert line.endswith(f": {known}* {new} {unseen}")
    assert json.loads(common.read_table(done.table)[0]["samples"]) == [known, new, unseen]


# Whole runs

def test_end_to_end(script, go, names):
    module = load(script)
    done = go(script)
    assert (done.status, done.err) == (0, "")
    text = done.table.read_text("utf-8")
    assert text.splitlines()[0].split(",") == COLUMNS and len(list(csv.reader(text.splitlines()))) == 2
    row, = common.read_table(done.table)
    config = module.Config(steps=4, eval_interval=2, batch_size=8)
    data = module.load_data(str(names), config, "cpu")
    blank = {"preset"} | ({"builds_on"} if module.BUILDS_ON is None else set())
    assert {key for key, value in row.items() if value == ""} == blank
    expected = dict(script=script.name, config=module.CONFIG, builds_on=module.BUILDS_ON or "", data="small.txt",
                    data_hash=hashlib.sha256(names.read_bytes()).hexdigest()[:12], seed="0", steps="4", threads="1",
                    overrides="batch_size=8 eval_interval=2 steps=4", n_embd=str(config.n_embd),
                    n_head=str(getattr(config, "n_head", 1)), n_layer=str(getattr(config, "n_layer", 1)),
                    torch=torch.__version__, source=module.source_hash())
    assert {key: row[key] for key in expected} == expected
    assert json.loads(row["settings"]) == vars(config)
    if script.name in CHAIN: assert row["head_size"] == str(CHAIN[script.name][2])
    for key in ("train", "test", "test_from_2nd", "test_unseen", "seconds", "ms_per_step"):
        assert re.fullmatch(r"\d+\.\d{6}", row[key]), key
    assert float(row["ms_per_step"]) == pytest.approx(1000 * float(row["seconds"]) / 4, abs=1e-3) and float(row["seconds"]) > 0
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["finished"])
    assert re.match(r"(cpu|cuda) \(.*\)$", row["device"])
    samples = json.loads(row["samples"])
    assert len(samples) == 10 and set("".join(samples)) <= set(data.chars) and max(map(len, samples)) <= data.max_len - 1
    # the curve
    curve, = done.results.glob("curves/*.csv")
    lines = curve.read_text().splitlines()
    assert lines[0] == "step,train,test" and curve.read_bytes().endswith(b"\n")
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "2", "4"]
    assert all(re.fullmatch(r"\d+,\d+\.\d{6},\d+\.\d{6}", line) for line in lines[1:])
    assert lines[-1] == f"4,{row['train']},{row['test']}"
    # the checkpoint is the model of the row
    path, = done.results.glob("checkpoints/*.pt")
    state = torch.load(path, weights_only=True)
    assert state["chars"] == data.chars and state["script"] == script.name and state["step"] == 4
    model = module.Transformer(config, len(data.chars) + 2, data.max_len)
    model.load_state_dict(state["model"])
    assert sum(p.numel() for p in model.parameters()) == int(row["params"])
    assert f"{module.mean_loss(module.token_losses(model, data.test), data.test):.6f}" == row["test"]
    assert f"{module.mean_loss(module.token_losses(model, data.train), data.train):.6f}" == row["train"]
    # what it says: a line an evaluation, the losses, the names, where everything went
    progress = [line for line in done.out.splitlines() if line.startswith("step ")]
    assert len(progress) == 2 and all("train" in line and "test" in line for line in progress)
    assert ["ms/step" in line for line in progress] == [False, True]  # step 0 has no pace to tell of
    for (step, train, test), line in zip((line.split(",") for line in lines[1:]), progress):
        assert re.findall(r"\d+\.\d{4}", line)[:2] == [f"{float(train):.4f}", f"{float(test):.4f}"]
    for path in (done.table, curve, path): assert str(path) in done.out
    for name in samples: assert name in done.out
    assert not [path for path in done.results.rglob("*") if path.suffix not in (".csv", ".pt") and path.is_file()]


def test_no_record_writes_nothing_at_all(script, go, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = tmp_path / "small.txt"
    before, project = common.tree(tmp_path), sorted(path.name for path in (ROOT / "results").rglob("*"))
    done = go(script, "--no-record")
    assert (done.status, done.err) == (0, "") and "ten names" in done.out
    assert common.tree(tmp_path) == before
    assert not done.results.exists()
    assert sorted(path.name for path in (ROOT / "results").rglob("*")) == project
    assert str(done.results) not in done.out


def test_the_same_seed_gives_the_same_run_and_another_does_not(step, go, names):
    knobs = ["--dropout", 0.1] if step.name == "train-2.py" else []
    runs = [go(step, "--seed", seed, *knobs, results=folder) for seed, folder in ((3, "a"), (3, "b"), (4, "c"))]
    assert [done.status for done in runs] == [0, 0, 0]
    a, b, c = (done.results for done in runs)
    common.assert_twins(a, b)
    first, other = common.checkpoint(a)["model"], common.checkpoint(c)["model"]
    assert not any(torch.equal(first[key], other[key]) for key in first if "ln" not in key)
    rows = [common.read_table(folder / "results.csv")[0] for folder in (a, c)]
    differ = {key for key in COLUMNS if rows[0][key] != rows[1][key]}
    assert {"seed", "train", "test", "settings", "samples"} <= differ
    assert not differ & {"script", "data_hash", "params", "source", "overrides", "steps"}
    words = lambda done: re.sub(r"\s+\S+ ms/step.*|row in .*", "", done.out)
    assert words(runs[0]) == words(runs[1]) != words(runs[2])


def test_nothing_left_over_in_the_process_changes_a_run(go, names):
    """Neither the global generators nor an earlier run in the same process."""
    go("train-2.py", "--dropout", 0.3, results="a")
    torch.manual_seed(99), random.seed(99), torch.set_num_threads(2)
    go("train-2.py", "--dropout", 0.3, results="b")
    common.assert_twins(names.parent / "a", names.parent / "b")


def test_a_terminal_line_is_updated_in_place(go, monkeypatch):
    module, endings = load("train-2-baseline.py"), []
    say = module.say
    monkeypatch.setattr(module, "say", lambda text, end="\n": (endings.append((text, end)), say(text, end))[1])
    monkeypatch.setattr(os, "isatty", lambda number: False)
    go(module)
    assert {end for text, end in endings if text.startswith("step")} == {"\n"}
    del endings[:]
    monkeypatch.setattr(os, "isatty", lambda number: True)
    go(module)
    assert [end for text, end in endings if text.startswith("step")] == ["\r"] * 2
    assert {end for text, end in endings if not text.startswith("step")} == {"\n"}


def test_a_bigram_run(step, go):
    if CHAIN[step.name][4] == 1: return
    done = go(step, "--n-layer", 0)
    assert (done.status, done.err) == (0, "")
    row, = common.read_table(done.table)
    assert row["n_layer"] == "0" and "n_layer=0" in row["overrides"].split()
