"""The models: sizes, attention against its mathematics, what a logit may depend on."""

import math

import pytest
import torch
import torch.nn.functional as F
from common import CHAIN, load

WRITTEN_OUT = ["train-2-baseline.py", "train-2-double-embd.py", "train-2-2head.py"]
WITH_ROPE = ["train-2-2head-4layer-mlp-ln-rope.py", "train-2.py"]
EXACT = {"rtol": 0, "atol": 1e-12}  # in double precision


def build(module, vocab_size=28, max_len=20, seed=0, **knobs):
    """A model as a run makes it, in double precision and without dropout."""
    torch.manual_seed(seed)
    return module.Transformer(module.Config(**knobs), vocab_size, max_len).double().eval()


def inputs(count, length, seed=1):
    """Random inputs, the boundary first: (count, length)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 28, (count, length), generator=generator)
    tokens[:, 0] = 1
    return tokens


def attention_of(model):
    """The first attention layer."""
    return next(part for part in model.modules() if type(part).__name__ == "Attention")


def output_of(part, model, tokens):
    """What goes into a part of the model, and what comes out, while it reads the tokens."""
    seen = []
    hook = part.register_forward_hook(lambda part, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        model(tokens)
    hook.remove()
    return seen[0]


@pytest.fixture
def calls(monkeypatch):
    """The calls of F.scaled_dot_product_attention: [(q, k, v, keywords)]."""
    made, function = [], F.scaled_dot_product_attention

    def watched(q, k, v, **keywords):
        made.append((q, k, v, keywords))
        return function(q, k, v, **keywords)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return made


def test_sizes(step):
    module = load(step)
    _, n_embd, head_size, n_head, n_layer, parameters, _ = CHAIN[step.name]
    config = module.Config()
    assert config.n_embd == n_embd
    assert getattr(config, "head_size", n_embd // n_head) == head_size
    assert getattr(config, "n_head", 1) == n_head
    assert getattr(config, "n_layer", 1) == n_layer
    assert sum(p.numel() for p in build(module).parameters()) == parameters


def test_the_presets_build_on_one_another():
    """The published ones are spelled out; the recipes of our own are tuned within bounds."""
    module = load("train-2.py")
    configs = {name: module.Config(**preset["knobs"]) for name, preset in module.PRESETS.items()}
    wide = {"n_embd": 64, "n_head": 4, "n_layer": 4}
    long = wide | {"dropout": 0.2, "steps": 20_000}
    schedule = {"learning_rate": 1e-3, "warmup_steps": 200, "lr_decay_to": 0.1}
    assert configs["64x4"] == module.Config(**wide)
    assert configs["dropout"] == module.Config(**wide, dropout=0.2)
    assert configs["20k"] == module.Config(**long)
    assert configs["final"] == module.Config(**long, **schedule, weight_decay=0.01, grad_clip=1.0)
    assert (configs["fast"].steps, configs["best"].steps) == (4000, 20_000)
    for config in configs.values():
        assert sum(p.numel() for p in build(module, **vars(config)).parameters()) == 202_780
    bases = {name: preset["builds_on"] for name, preset in module.PRESETS.items()}
    parents = {"dropout": "64x4", "20k": "dropout", "final": "20k", "fast": "64x4", "best": "final"}
    expected = {name: f"train-2.py --preset {parent}" for name, parent in parents.items()}
    assert bases == {"64x4": "train-2.py"} | expected


def test_only_query_key_and_value_have_no_bias(step):
    for name, part in build(load(step)).named_modules():
        if isinstance(part, torch.nn.Linear):
            assert (part.bias is None) == (name.split(".")[-1] == "qkv"), name


def test_the_last_linear_is_lm_head(script):
    """The logits are what lm_head makes: there is nothing after it, and no other last layer."""
    model, tokens = build(load(script)), inputs(2, 5)
    _, logits = output_of(model.lm_head, model, tokens)
    assert isinstance(model.lm_head, torch.nn.Linear)
    assert torch.equal(model(tokens), logits)


def test_no_position_looks_ahead(script):
    model, tokens = build(load(script)), inputs(1, 10)
    logits = model(tokens)
    for place in range(1, 10):
        other = tokens.clone()
        other[0, place] = 2 + (tokens[0, place] - 1) % 26
        change = (model(other) - logits).abs().amax(dim=-1)[0]  # (10,)
        assert change[:place].max() < 1e-12
        assert change[place] > 1e-4  # the change did arrive


def test_every_position_looks_at_all_before_it(step):
    model, tokens = build(load(step)), inputs(1, 10)
    for place in range(10):
        other = tokens.clone()
        other[0, place] = 2 + (tokens[0, place] - 1) % 26
        assert (model(other) - model(tokens))[0, -1].abs().max() > 1e-9


def test_padding_and_neighbours_do_not_count(script):
    """A short name has the logits and losses that it has alone."""
    module = load(script)
    model, short, long = build(module), inputs(1, 5)[0], inputs(1, 20, seed=2)[0]
    both = torch.zeros(2, 20, dtype=torch.long)
    both[0, :5], both[1] = short, long
    logits = model(both[:, :-1])
    assert torch.allclose(logits[0, :4], model(short[None, :-1])[0], **EXACT)
    alone = module.masked_loss(model(short[None, :-1]), short[None, 1:], reduction="none")
    losses = module.masked_loss(logits, both[:, 1:], reduction="none").view(2, -1)
    assert torch.allclose(losses[0, :4], alone, **EXACT)
    assert not losses[0, 4:].any()


def by_the_kernel(attention, x, n_head):
    """What attention gathers from x, by PyTorch's own function: (B, T, n_head * head_size)."""
    B, T, _ = x.shape
    q, k, v = (
        part.view(B, T, n_head, -1).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1)
    )
    gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return gathered.transpose(1, 2).reshape(B, T, -1)


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_live_attention_is_scaled_dot_product_attention(name, calls):
    module = load(name)
    model, tokens = build(module), inputs(3, 9)
    attention = attention_of(model)
    x, result = output_of(attention, model, tokens)
    assert not calls  # it is written out, in plain tensor operations
    expected = by_the_kernel(attention, x, getattr(module.Config(), "n_head", 1))
    if hasattr(attention, "proj"):
        expected = attention.proj(expected)
    assert torch.allclose(result, expected, **EXACT)


def test_the_kernel_changes_nothing_but_the_speed():
    """With the same weights, attention in 4 layers is attention in 2 heads."""
    live, kernel = load("train-2-2head.py"), load("train-2-2head-4layer.py")
    for knobs in ({}, {"n_embd": 24, "n_head": 3}):
        a = live.Attention(live.Config(**knobs), 20).double()
        b = kernel.Attention(kernel.Config(**knobs)).double()
        b.load_state_dict(a.state_dict())
        x = torch.randn(3, 9, live.Config(**knobs).n_embd, dtype=torch.float64)
        assert torch.allclose(a(x), b(x), **EXACT)


def test_heads_are_kept_apart(step, calls):
    """The values of one head reach their own part of what the projection reads, and no other."""
    _, _, head_size, n_head, *_ = CHAIN[step.name]
    if n_head == 1:
        return
    model, tokens = build(load(step)), inputs(2, 7)
    attention = attention_of(model)
    before, _ = output_of(attention.proj, model, tokens)
    assert before.shape == (2, 7, n_head * head_size)
    for head in range(n_head):
        values = slice((2 * n_head + head) * head_size, (2 * n_head + head + 1) * head_size)
        with torch.no_grad():
            attention.qkv.weight[values] *= 2
        after, _ = output_of(attention.proj, model, tokens)
        changed = (after - before).view(2, 7, n_head, head_size).abs().amax(dim=(0, 1, 3)) > 1e-9
        assert changed.tolist() == [other == head for other in range(n_head)]
        before = after


@pytest.mark.parametrize("name", WITH_ROPE)
@pytest.mark.parametrize("head_size", [2, 6, 16])
def test_rotation_is_the_textbook_one(name, head_size):
    """Every pair of numbers is turned by its position times its frequency (Su et al. 2021)."""
    module = load(name)
    x = torch.randn(2, 3, 11, head_size, dtype=torch.float64)
    rotated = module.rotate(x, module.rope_table(head_size, 30).double())
    half = head_size // 2
    angles = torch.arange(11)[:, None] * 10_000 ** (-2 * torch.arange(half) / head_size)
    pairs = torch.complex(x[..., :half], x[..., half:]) * torch.exp(1j * angles)
    expected = torch.cat([pairs.real, pairs.imag], dim=-1)
    assert torch.allclose(rotated, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", WITH_ROPE)
def test_queries_and_keys_are_rotated_and_values_are_not(name, calls):
    model = build(load(name), max_len=40)
    model(torch.tensor([[3, 7] * 20]))  # two tokens in turn: q and k differ by position only
    q, k, v, _ = calls[0]
    plain, _ = output_of(attention_of(model).qkv, model, torch.tensor([[3, 7] * 20]))
    parts = attention_of(model).qkv(plain).view(1, 40, 6, 16).transpose(1, 2)
    table = load(name).rope_table(16, 40).double()
    for part, own in zip((q, k), parts.chunk(3, dim=1)[:2], strict=True):
        assert torch.allclose(part, load(name).rotate(own, table), **EXACT)
    assert torch.allclose(v, parts[:, 4:], **EXACT)
    # How well a query fits a key depends on how far apart the two are, and on nothing else.
    scores = (q @ k.transpose(-2, -1))[0]  # (n_head, 40, 40)
    assert torch.allclose(scores[:, 2:, 2:], scores[:, :-2, :-2], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[:, 2:], scores[:, :-2], rtol=0, atol=1e-2)


def test_every_part_of_a_layer_is_added_once(step):
    """x + attention, then x + MLP; and it is what goes into them that LayerNorm works on."""
    model, tokens = build(load(step)), inputs(2, 7)
    if not hasattr(model, "layers"):
        return
    x = model.tok_emb(tokens)
    for layer in model.layers:
        read, attended = output_of(layer.attn, model, tokens)
        assert torch.allclose(read, layer.ln1(x) if hasattr(layer, "ln1") else x, **EXACT)
        x = x + attended
        if hasattr(layer, "mlp"):
            read, result = output_of(layer.mlp, model, tokens)
            assert torch.allclose(read, layer.ln2(x) if hasattr(layer, "ln2") else x, **EXACT)
            x = x + result
    assert torch.allclose(model(tokens), model.lm_head(x), **EXACT)


@pytest.mark.parametrize("name", CHAIN)
def test_the_activation(name):
    """ReLU from the MLP on, and in the last step the exact GELU, x times Phi(x)."""
    module = load(name)
    if not hasattr(module, "MLP"):
        assert list(CHAIN).index(name) < 4
        return
    mlp = module.MLP(module.Config()).double().eval()
    x = torch.randn(50, 32, dtype=torch.float64)
    z = mlp.fc(x)
    assert z.shape == (50, 128)
    gelu = z * (1 + torch.erf(z / math.sqrt(2))) / 2
    assert torch.allclose(mlp(x), mlp.proj(gelu if name == "train-2.py" else z.relu()), **EXACT)


def test_dropout_acts_in_training_only(names):
    """An evaluation draws nothing and is that of a model without dropout; training goes on."""
    module = load("train-2.py")
    data = module.load_data(names, module.Config(), "cpu")
    size = (len(data.chars) + 2, data.max_len)
    plain, model = (build(module, *size, dropout=share).float() for share in (0.0, 0.5))
    tokens = data.train[:, :-1]
    model.train()
    assert not torch.equal(model(tokens), model(tokens))
    before = torch.get_rng_state()
    losses = module.token_losses(model, data.train)
    assert torch.equal(losses, module.token_losses(plain, data.train))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(model(tokens), model(tokens))
    drawn = [module.generate(m, data, 9, torch.Generator().manual_seed(3)) for m in (plain, model)]
    assert drawn[0] == drawn[1]


def test_dropout_stands_where_gpt_2_has_it(calls):
    """On the attention weights, on attention's output and on the MLP's, and nowhere else."""
    model = build(load("train-2.py"), dropout=0.5, n_layer=1).train()
    layer, tokens = model.layers[0], inputs(4, 10)
    for part in (layer.attn, layer.mlp):
        _, result = output_of(part, model, tokens)
        assert 0.4 < (result == 0).double().mean() < 0.6
    assert calls[0][3]["dropout_p"] == 0.5
    for part in (layer.attn.proj, layer.mlp.proj, layer.mlp.fc, layer.ln1, layer.ln2):
        _, result = output_of(part, model, tokens)
        assert (result != 0).all()
    model.eval()
    model(tokens)
    assert calls[-1][3]["dropout_p"] == 0
