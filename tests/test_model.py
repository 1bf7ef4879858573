"""The models: sizes, what a logit may depend on, attention against its mathematics, how far they can learn."""
import collections, copy, hashlib, math, random, re, textwrap

import pytest, torch, torch.nn.functional as F

import common
from common import CHAIN, ROOT, load

WITH_ROPE = ["train-2-2head-4layer-mlp-ln-rope.py", "train-2.py"]


def build(module, vocab=28, max_len=20, seed=0, **knobs):
    torch.manual_seed(seed)
    return module.Transformer(module.Config(**knobs), vocab, max_len)


def tokens(n, length, seed=1):
    """Random names that fill their length, the boundary first: (n, length)."""
    drawn = torch.randint(2, 28, (n, length), generator=torch.Generator().manual_seed(seed))
    drawn[:, 0] = 1
    return drawn


@pytest.fixture
def calls(monkeypatch):
    """Every call of F.scaled_dot_product_attention: [(q, k, v, keywords, result)]."""
    made, function = [], F.scaled_dot_product_attention

    def spy(q, k, v, **keywords):
        made.append((q, k, v, keywords, result := function(q, k, v, **keywords)))
        return result

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return made


# Sizes

def test_parameters(step):
    module = load(step)
    config, n_embd, head_size, n_head, n_layer, parameters, _ = CHAIN[step.name]
    model = build(module)
    assert sum(p.numel() for p in model.parameters()) == parameters
    knobs = module.Config()
    assert knobs.n_embd == n_embd and getattr(knobs, "n_layer", 1) == n_layer and getattr(knobs, "n_head", 1) == n_head
    assert getattr(knobs, "head_size", n_embd // n_head) == head_size


@pytest.mark.parametrize("preset", ["64x4", "dropout", "20k", "final", "fast", "best"])
def test_parameters_of_the_presets(preset):
    module = load("train-2.py")
    assert sum(p.numel() for p in build(module, **module.PRESETS[preset]["knobs"]).parameters()) == 202_780


def test_the_presets_build_on_one_another():
    module = load("train-2.py")
    knobs = {name: module.Config(**preset["knobs"]) for name, preset in module.PRESETS.items()}
    width = dict(n_embd=64, n_head=4, n_layer=4)
    assert knobs["64x4"] == module.Config(**width)
    assert knobs["dropout"] == module.Config(**width, dropout=0.2)
    assert knobs["20k"] == module.Config(**width, dropout=0.2, steps=20000)
    assert knobs["final"] == module.Config(**width, dropout=0.2, steps=20000, learning_rate=1e-3, warmup_steps=200,
                                           lr_decay_to=0.1, weight_decay=0.01, grad_clip=1.0)
    base = {"64x4": None, "dropout": "64x4", "20k": "dropout", "final": "20k", "fast": "64x4", "best": "final"}
    assert {name: preset["builds_on"] for name, preset in module.PRESETS.items()} == {
        name: "train-2.py" + (f" --preset {other}" if other else "") for name, other in base.items()}


def test_the_presets_for_speed_and_for_loss():
    """Their other knobs are tuned; the shape is that of 64x4, and `best` sees no more names than `final`."""
    module = load("train-2.py")
    fast, best, final = (module.Config(**module.PRESETS[name]["knobs"]) for name in ("fast", "best", "final"))
    for config in (fast, best):
        assert (config.n_embd, config.n_head, config.n_layer) == (64, 4, 4)
        assert not config.compile and not config.validate and config.threads == 1
    assert best.steps * best.batch_size <= 20_000 * 32 == final.steps * final.batch_size
    assert fast.steps * fast.batch_size < final.steps * final.batch_size


def test_biases(step):
    """Query, key and value have none, every other linear layer has one."""
    linear = {name: m for name, m in build(load(step)).named_modules() if isinstance(m, torch.nn.Linear)}
    assert {name.split(".")[-1] for name, m in linear.items() if m.bias is None} <= {"query", "key", "value", "qkv"}
    assert {name.split(".")[-1] for name, m in linear.items() if m.bias is not None} <= {"proj", "fc", "head"}


def test_a_model_without_layers_is_a_bigram_model(step):
    module = load(step)
    if not hasattr(module.Config(), "n_layer"):
        assert CHAIN[step.name][4] == 1
        return
    model = build(module, n_layer=0)
    n_embd = module.Config().n_embd
    assert sum(p.numel() for p in model.parameters()) == 28 * n_embd + 28 * n_embd + 28
    a = tokens(2, 6)
    a[1, 3] = a[0, 3]
    logits = model(a)
    assert torch.equal(logits[0, 3], logits[1, 3])  # nothing but the token itself counts
    out = model.head(model.tok_emb(a))
    assert torch.equal(logits, out)


BIGRAM = "train-2-2head-4layer.py"


def test_a_run_without_layers_looks_at_the_last_token_only(go):
    """As it is run: the trained model knows the token, and neither what came before nor the position."""
    done = go(BIGRAM, "--n-layer", 0)
    assert (done.status, done.err) == (0, "")
    row, = common.read_table(done.table)
    assert (row["n_layer"], row["config"]) == ("0", "4 layers") and "n_layer=0" in row["overrides"].split()
    module, state = load(BIGRAM), common.checkpoint(done.results)
    vocab = len(state["chars"]) + 2
    model = module.Transformer(module.Config(n_layer=0), vocab, state["max_len"]).eval()
    model.load_state_dict(state["model"])
    assert sum(p.numel() for p in model.parameters()) == int(row["params"])
    rows = torch.randint(1, vocab, (50, state["max_len"]), generator=torch.Generator().manual_seed(2))
    logits, alone = model(rows), model(torch.arange(vocab)[:, None])[:, 0]
    assert torch.allclose(logits, alone[rows], rtol=0, atol=1e-6)
    assert len({tuple(line) for line in alone[1:].tolist()}) == vocab - 1  # but it does look at that one


def counted_bigram(path):
    """The test loss of counting which token follows which in the training names, one added to every count."""
    items = [line.strip() for line in path.read_text("utf-8").split("\n") if line.strip()]
    random.Random(42).shuffle(items)
    cut = int(0.8 * len(items))
    def pairs(items): return [pair for item in items for pair in zip("." + item, item + ".")]
    counts = collections.Counter(pairs(items[:cut]))
    before = collections.Counter(a for a, _ in pairs(items[:cut]))
    followers = len(set("".join(items))) + 1  # the letters, and the boundary
    losses = [-math.log((counts[a, b] + 1) / (before[a] + followers)) for a, b in pairs(items[cut:])]
    return sum(losses) / len(losses)


def test_the_trained_bigram_is_as_good_as_the_counted_one():
    """No model that looks at one character can do much better, and a trained one should not do worse."""
    names, table = ROOT / "data" / "names.txt", ROOT / "results" / "results.csv"
    if not names.exists(): pytest.skip("no data/names.txt here")
    sha = hashlib.sha256(names.read_bytes()).hexdigest()[:12]
    rows = [row for row in common.read_table(table) if (row["script"], row["overrides"]) == (BIGRAM, "n_layer=0")]
    losses = [float(row["test"]) for row in rows if row["data_hash"] == sha]
    if not losses: pytest.skip("no run of the bigram is recorded yet")
    assert abs(sum(losses) / len(losses) - counted_bigram(names)) < 0.02


def test_the_counted_bigram_by_hand(tmp_path):
    path = tmp_path / "two.txt"
    path.write_text("ab\nab\n")  # one to count, one to test; each pair was seen once, of 3 followers and 1 more
    assert counted_bigram(path) == pytest.approx(math.log(2))


def test_the_global_generator_alone_draws_the_weights(step):
    a, b, c = (build(load(step), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


# What a logit may depend on

def test_causality(script):
    model = build(load(script)).double().eval()
    x = tokens(1, 10)
    logits = model(x)
    for place in range(1, 10):
        y = x.clone()
        y[0, place] = 2 + (x[0, place] - 1) % 26
        other = model(y)
        assert torch.allclose(other[:, :place], logits[:, :place], rtol=0, atol=1e-12)
        assert not torch.allclose(other[:, place], logits[:, place], rtol=0, atol=1e-4)  # the change did arrive


def test_every_earlier_token_counts(step):
    model = build(load(step)).double().eval()
    x = tokens(1, 10)
    for place in range(9):
        y = x.clone()
        y[0, place] = 2 + (x[0, place] - 1) % 26
        assert (model(y) - model(x))[:, -1].abs().max() > 1e-9


def test_padding_and_neighbours_do_not_count(script, ids_28):
    module = load(script)
    model = build(module).double().eval()
    items = ["emma", "al", "maximilian", "bo", "christopher"]
    wide = ids_28.encode(items, 20)

    def losses(rows):
        with torch.no_grad():
            return module.masked_loss(model(rows[:, :-1]), rows[:, 1:], reduction="none").view(len(rows), -1)

    together = losses(wide)
    for i, item in enumerate(items):
        n = len(item) + 1
        alone = losses(ids_28.encode([item]))
        assert alone.shape == (1, n) and alone.min() > 0
        assert torch.allclose(together[i, :n], alone[0], rtol=0, atol=1e-12)
        assert not together[i, n:].any()
    # the same of the function that evaluates, which cuts and sorts: in whatever order and company
    model.float()
    full = module.token_losses(model, wide)
    order = [3, 0, 4, 2, 1]
    assert torch.allclose(module.token_losses(model, wide[order]), full[order], rtol=0, atol=1e-5)
    assert torch.allclose(full, together.float(), rtol=0, atol=1e-5)


def test_the_mean_loss_leaves_padding_out(script, ids_28):
    """The mean over targets, which a batch's padding does not water down: value and gradient."""
    module = load(script)
    narrow, wide = ids_28.encode(["emma", "al"]), ids_28.encode(["emma", "al"], 20)
    gradients = []
    for rows in (narrow, wide):
        model = build(module).double()
        loss = module.masked_loss(model(rows[:, :-1]), rows[:, 1:])
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
        by_hand = [-model(torch.tensor([[1, *row[:i]]])).log_softmax(-1)[0, -1, row[i]] for row in
                   ([6, 14, 14, 2, 1], [2, 13, 1]) for i in range(len(row))]
        assert loss.item() == pytest.approx(sum(by_hand).item() / 8, abs=1e-12)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*gradients))


# Attention

def mathematics():
    """The three commented lines that stand above the call in the baseline, as code, and the call itself."""
    source = (ROOT / "train-2-baseline.py").read_text("utf-8")
    found = re.search(r"((?:^ +# .+\n){3})^ +(x = F\.scaled_dot_product_attention\(.+)$", source, flags=re.M)
    assert found, "three lines of mathematics stand above the call in the baseline"
    return re.sub(r"^ +# ", "", found[1], flags=re.M), found[2]


def test_the_mathematics_above_the_call_is_what_it_computes():
    formula, call = mathematics()
    q, k, v = torch.randn(3, 5, 1, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = (dict(q=q, k=k, v=v, torch=torch, math=math, F=F) for _ in range(2))
    exec(formula, a)
    exec(call, b)
    assert a["x"].shape == b["x"].shape == (5, 1, 9, 16)
    assert torch.allclose(a["x"], b["x"], rtol=0, atol=1e-12)


def test_attention_is_the_written_out_mathematics(step, calls):
    formula, _ = mathematics()
    model = build(load(step)).double().eval()
    model(tokens(3, 9))
    _, _, head_size, n_head, n_layer, _, _ = CHAIN[step.name][:7]
    assert len(calls) == n_layer
    for q, k, v, _, result in calls:
        assert q.shape == k.shape == v.shape == (3, n_head, 9, head_size)
        space = dict(q=q, k=k, v=v, torch=torch, math=math)
        exec(formula, space)
        assert torch.allclose(space["x"], result, rtol=0, atol=1e-12)
        for b in range(3):  # and the same without any of torch's shortcuts
            for h in range(n_head):
                for t in range(9):
                    scores = torch.stack([q[b, h, t] @ k[b, h, s] for s in range(t + 1)]) / math.sqrt(head_size)
                    weights = scores.exp() / scores.exp().sum()
                    expected = sum(weights[s] * v[b, h, s] for s in range(t + 1))
                    assert torch.allclose(result[b, h, t], expected, rtol=0, atol=1e-12)


def test_heads_are_kept_apart(step, calls):
    """Values of a token depend on that token alone, and heads come out side by side, in order, into the projection."""
    model = build(load(step)).double().eval()
    seen = []
    attention = next(m for m in model.modules() if type(m).__name__ == "Attention")
    layers = [m for m in attention.modules() if isinstance(m, torch.nn.Linear)]
    for layer in layers: layer.register_forward_hook(lambda m, args, out: seen.append((args[0], out)))
    x = tokens(2, 7)
    model(x)
    q, k, v, _, result = calls[0]
    n_head, head_size = CHAIN[step.name][3], CHAIN[step.name][2]
    if n_head > 1:
        joined, _ = seen[-1]  # what the projection reads
        assert joined.shape == (2, 7, n_head * head_size)
        for h in range(n_head):
            assert torch.equal(joined[..., h * head_size:(h + 1) * head_size], result[:, h])
    calls.clear()
    for t in range(7):
        model(x[:1, t:t + 1])  # alone, at position 0
    first = [call for call in calls[::CHAIN[step.name][4]]]
    for t in range(7):
        assert torch.allclose(first[t][2][0, :, 0], v[0, :, t], rtol=0, atol=1e-12)
        if step.name not in WITH_ROPE:
            assert torch.allclose(first[t][0][0, :, 0], q[0, :, t], rtol=0, atol=1e-12)
            assert torch.allclose(first[t][1][0, :, 0], k[0, :, t], rtol=0, atol=1e-12)
    flat = torch.cat([part.flatten(1, 1) for part in (q[0, h] for h in range(n_head))], dim=-1)
    assert torch.linalg.matrix_rank(flat) == min(7, n_head * head_size)  # no head is a copy of another


# RoPE

@pytest.mark.parametrize("name", WITH_ROPE)
def test_rope(name, calls):
    """The same tokens further on: equal norms, equal scores at equal distance, and values as they were."""
    model = build(load(name), max_len=40).double().eval()
    model(torch.tensor([[3, 7] * 20]))  # two tokens in turn, so that q and k differ by position only
    q, k, v, _, _ = (x[0] if torch.is_tensor(x) else x for x in calls[0])
    assert torch.allclose(v[:, 2:], v[:, :-2], rtol=0, atol=1e-12)  # values are not turned
    for x in (q, k):
        assert torch.allclose(x[:, 2:].norm(dim=-1), x[:, :-2].norm(dim=-1), rtol=0, atol=1e-6)
        assert not torch.allclose(x[:, 2:], x[:, :-2], rtol=0, atol=1e-2)
    scores = q @ k.transpose(-2, -1)  # (heads, 40, 40)
    assert torch.allclose(scores[:, 2:, 2:], scores[:, :-2, :-2], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[:, 2:], scores[:, :-2], rtol=0, atol=1e-2)  # and the distance does count
    # position 0 is not turned: a token that comes first has the query of a model that knows no positions
    calls.clear()
    model(torch.tensor([[3, 7]]))
    alone = calls[0][0][0, :, 0]
    assert torch.allclose(alone, q[:, 0], rtol=0, atol=1e-12)
    # every pair of dimensions turns by its own power of 10,000: the products of q_t and q_0 say by how much
    d = q.size(-1)
    frequencies = 10_000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angles = torch.arange(0, 40, 2, dtype=torch.float64)[:, None] * frequencies
    products = q[:, ::2] @ q[:, 0, :, None]  # (heads, 20, 1)
    pairings = [(q[:, 0, : d // 2], q[:, 0, d // 2:]), (q[:, 0, ::2], q[:, 0, 1::2])]  # in halves, or neighbours
    errors = [(angles.cos() @ (a ** 2 + b ** 2)[:, :, None] - products).abs().max() for a, b in pairings]
    assert min(errors) < 1e-4


def test_without_rope_only_the_mask_knows_positions(step):
    """Before RoPE a model of one layer sees the set of the earlier tokens, with RoPE their order."""
    module = load(step)
    model = build(module, **({"n_layer": 1} if hasattr(module.Config(), "n_layer") else {})).double().eval()
    a, b = torch.tensor([[1, 5, 9, 13, 4]]), torch.tensor([[1, 13, 5, 9, 4]])
    equal = torch.allclose(model(a)[0, -1], model(b)[0, -1], rtol=0, atol=1e-12)
    assert equal == (step.name not in WITH_ROPE)


def test_the_activation(step, monkeypatch):
    """ReLU from the MLP on, exact GELU in the last step."""
    made = []
    for name in ("relu", "gelu"):
        function = getattr(F, name)
        monkeypatch.setattr(F, name, lambda x, *args, name=name, function=function, **keywords: (
            made.append((name, args, keywords)), function(x, *args, **keywords))[1])
    build(load(step)).eval()(tokens(1, 4))
    steps = list(CHAIN)
    expected = None if steps.index(step.name) < 4 else "gelu" if step.name == "train-2.py" else "relu"
    assert {name for name, *_ in made} == ({expected} if expected else set())
    assert len(made) == (4 if expected else 0)
    assert all(keywords.get("approximate", "none") == "none" and not args for _, args, keywords in made)


# Dropout

def test_dropout_is_off_in_evaluation(calls, ids_28):
    module = load("train-2.py")
    plain, model = build(module), build(module, dropout=0.5)
    rows = ids_28.encode(["emma", "olivia", "ava"])
    x = rows[:, :-1]
    model.train()
    assert not torch.equal(model(x), model(x))
    assert calls[-1][3]["dropout_p"] == 0.5
    torch.manual_seed(0)
    before = torch.get_rng_state()
    losses = module.token_losses(model, rows)
    assert calls[-1][3].get("dropout_p", 0) == 0
    assert torch.equal(losses, module.token_losses(plain, rows))  # as if there were none
    assert torch.equal(torch.get_rng_state(), before)  # and nothing was drawn
    assert model.training, "training goes on with dropout after an evaluation"
    assert not torch.equal(model(x), model(x))
    data = type("Data", (), dict(max_len=8, chars=ids_28.chars))
    names = [module.generate(m, data, 20, torch.Generator().manual_seed(3)) for m in (plain, model)]
    assert names[0] == names[1]


def test_dropout_stands_where_gpt_2_has_it(calls):
    """On the attention weights, on attention's output and on the MLP's."""
    model = build(load("train-2.py"), dropout=0.5, n_layer=1).train()
    block = model.layers[0]
    dropouts = [m for m in block.modules() if isinstance(m, torch.nn.Dropout)]
    outputs = []
    for part in (block.attn, block.mlp): part.register_forward_hook(lambda m, args, out: outputs.append(out))
    torch.manual_seed(1)
    model(tokens(4, 10))
    assert calls[0][3]["dropout_p"] == 0.5
    for out in outputs: assert 0.4 < (out == 0).float().mean() < 0.6
    assert len(outputs) == 2 and {m.p for m in dropouts} == {0.5}


# How far they learn

def test_loss_at_initialisation(script, ids_28):
    """A model that knows nothing is near the loss of a guess."""
    module = load(script)
    items = (ROOT / "data" / "sample-names.txt").read_text("utf-8").split()[::6]
    rows = ids_28.encode(items)
    for seed in range(3):
        model = build(module, max_len=rows.size(1), seed=seed)
        assert abs(module.mean_loss(module.token_losses(model, rows), rows) - math.log(28)) < 0.4


EASY = ["abcd", "efg", "hi", "j"]  # every letter says what follows
SHARED = ["mara", "lena", "sofia", "karl"]  # only who remembers the beginning knows how to go on
REPEATED = ["anna", "bobby", "cecilia", "dada", "eveleen"]  # only who knows positions tells the same letters apart


@pytest.mark.parametrize("names", [EASY, SHARED, REPEATED], ids=["easy", "shared", "repeated"])
def test_a_handful_of_names_can_be_learned_by_heart(step, names, ids_28, monkeypatch):
    """Down to their floor: nothing but the first letter is left to chance."""
    module = load(step)
    if names is SHARED and CHAIN[step.name][4] == 1: return  # more than a single layer manages
    if names is REPEATED and step.name not in WITH_ROPE: return
    monkeypatch.setattr(module, "say", lambda *args, **keywords: None)
    rows = ids_28.encode(names)
    data = type("Data", (), dict(train=rows, test=rows, max_len=rows.size(1) - 1, chars=ids_28.chars))
    floor = len(names) * math.log(len(names)) / sum(len(name) + 1 for name in names)
    for seed in range(6):  # a lone head can get stuck for good, looking at the wrong token: it may try again
        config = module.Config(steps=400, batch_size=8, learning_rate=1e-2, lr_decay_to=0.05, weight_decay=0.3,
                               eval_interval=1000, seed=seed)
        model = build(module, max_len=rows.size(1), seed=seed)
        for state in module.train(model, data, config, {}, []): pass
        assert state["step"] == 400
        loss = module.mean_loss(module.token_losses(model, rows), rows)
        assert loss > floor - 1e-4
        if loss < floor + 0.05: break
        assert CHAIN[step.name][3] == 1, "only a lone head"
    assert loss < floor + 0.05
    drawn = module.generate(model, data, 50, torch.Generator().manual_seed(0))
    assert set(drawn) >= set(names) and sum(name in names for name in drawn) > 25
