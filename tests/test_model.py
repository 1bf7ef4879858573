"""The models: shapes, a reference written out by loops, what a logit may depend on, dropout."""

import cmath
import math

import pytest
import torch
import torch.nn.functional as F
from common import CHAIN, load

ROPE = "train-2-2head-4layer-mlp-ln-rope.py"


def build(module, vocab_size=28, max_len=20, **settings):
    """A model as a run makes it, in double precision from the start and without dropout."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        return module.Transformer(module.Config(**settings), vocab_size, max_len).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def inputs(count, length, seed=1):
    """Random inputs, the boundary first: (count, length)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 28, (count, length), generator=generator)
    tokens[:, 0] = 1
    return tokens


def has(step, first):
    """Whether a step of the chain is `first` or comes after it."""
    order = list(CHAIN)
    return order.index(step) >= order.index(first)


def shapes(step, vocab, width, head_size, n_head, n_layer):
    """{parameter: its shape} of a step of the chain. A Linear's weight is (out, in)."""

    def linear(name, n_in, n_out):
        return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}

    gathered = n_head * head_size
    layer = {"attn.qkv.weight": (3 * gathered, width)}
    if has(step, "train-2-2head.py"):
        layer |= linear("attn.proj", gathered, width)
    if has(step, "train-2-2head-4layer-mlp.py"):
        layer |= linear("mlp.fc", width, 4 * width) | linear("mlp.proj", 4 * width, width)
    if has(step, "train-2-2head-4layer-mlp-ln.py"):
        layer |= {f"ln{i}.{part}": (width,) for i in (1, 2) for part in ("weight", "bias")}
    if has(step, "train-2-2head-4layer.py"):
        layer = {f"layers.{i}.{k}": shape for i in range(n_layer) for k, shape in layer.items()}
    out = width if has(step, "train-2-2head.py") else head_size
    return {"tok_emb.weight": (vocab, width)} | layer | linear("lm_head", out, vocab)


def test_shapes_and_parameters(step):
    """Only qkv has no bias; there is no position embedding and no final LayerNorm."""
    _, width, head_size, n_head, n_layer, parameters, _ = CHAIN[step.name]
    expected = shapes(step.name, 28, width, head_size, n_head, n_layer)
    state = build(load(step)).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected
    assert sum(map(math.prod, expected.values())) == parameters


def rotated(vector, place):
    """Number i and number i + d/2 are a complex number, turned by place * 10,000^(-2i/d)."""
    half = len(vector) // 2
    pairs = [complex(vector[i], vector[i + half]) for i in range(half)]
    pairs = [z * cmath.exp(1j * place * 10_000 ** (-i / half)) for i, z in enumerate(pairs)]
    return torch.tensor([z.real for z in pairs] + [z.imag for z in pairs], dtype=torch.float64)


def attend(x, weight, n_head, rope):
    """softmax(Q K^T / sqrt d) V by loops over heads and positions: (T, width) -> (T, gathered)."""
    queries, keys, values = (x @ weight.T).chunk(3, dim=1)
    size = queries.size(1) // n_head
    result = torch.zeros_like(queries)
    for head in range(n_head):
        part = slice(head * size, (head + 1) * size)
        q, k = queries[:, part], keys[:, part]
        if rope:
            q, k = (torch.stack([rotated(row, t) for t, row in enumerate(y)]) for y in (q, k))
        for t in range(len(x)):
            shares = [math.exp(q[t] @ k[s] / math.sqrt(size)) for s in range(t + 1)]
            for s, share in enumerate(shares):
                result[t, part] += share / sum(shares) * values[s, part]
    return result


def reference(step, w, tokens, n_head, n_layer):
    """The logits of one name, from the weights: (T,) -> (T, vocab_size)."""

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        if not has(step, "train-2-2head-4layer-mlp-ln.py"):
            return x
        x = x - x.mean(dim=1, keepdim=True)
        x = x / (x.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["tok_emb.weight"][tokens]
    for layer in range(n_layer):
        here = f"layers.{layer}." if has(step, "train-2-2head-4layer.py") else ""
        y = attend(norm(f"{here}ln1", x), w[f"{here}attn.qkv.weight"], n_head, has(step, ROPE))
        if has(step, "train-2-2head.py"):
            y = linear(f"{here}attn.proj", y)
        x = x + y if has(step, "train-2-2head-4layer.py") else y
        if has(step, "train-2-2head-4layer-mlp.py"):
            z = linear(f"{here}mlp.fc", norm(f"{here}ln2", x))
            gelu = z * (1 + torch.erf(z / math.sqrt(2))) / 2
            z = gelu if step == "train-2.py" else z.clamp(min=0)
            x = x + linear(f"{here}mlp.proj", z)
    return linear("lm_head", x)


def test_a_model_is_its_mathematics(step):
    """Attention by loops, live or by the kernel; what is added, normalised, rotated, and where."""
    module = load(step)
    _, _, _, n_head, n_layer, *_ = CHAIN[step.name]
    odd = {"n_embd": 18, **({"n_head": 3} if n_head > 1 else {"head_size": 5})}
    for settings in ({}, odd):
        model = build(module, **settings)
        with torch.no_grad():
            for p in model.parameters():  # away from ones, zeros, and a softmax that is flat
                p.add_(torch.randn_like(p), alpha=0.1)
            tokens = inputs(2, 7)
            logits = model(tokens)
            for own, name in zip(logits, tokens, strict=True):
                heads = settings.get("n_head", n_head)
                expected = reference(step.name, model.state_dict(), name, heads, n_layer)
                assert torch.allclose(own, expected, rtol=0, atol=1e-9)


def test_no_position_looks_ahead(step):
    model, tokens = build(load(step)), inputs(1, 10)
    logits = model(tokens)
    for place in range(1, 10):
        other = tokens.clone()
        other[0, place] = 2 + (tokens[0, place] - 1) % 26
        change = (model(other) - logits).abs().amax(dim=-1)[0]  # (10,)
        assert change[:place].max() < 1e-12 and change[place] > 1e-4  # the change did arrive


def test_padding_and_neighbours_do_not_count(step):
    """A short name has the losses that it has alone."""
    module = load(step)
    model, short, long = build(module), inputs(1, 5)[0], inputs(1, 20, seed=2)[0]
    both = torch.stack([F.pad(short, (0, 15)), long])
    alone = module.masked_loss(model(short[None, :-1]), short[None, 1:], reduction="none")
    losses = module.masked_loss(model(both[:, :-1]), both[:, 1:], reduction="none")
    assert torch.allclose(losses[:4], alone, rtol=0, atol=1e-12)
    assert not losses[4:19].any()


@pytest.fixture
def calls(monkeypatch):
    """What F.scaled_dot_product_attention is given: [(q, k, v, dropout)]."""
    made, kernel = [], F.scaled_dot_product_attention

    def watched(q, k, v, dropout_p=0.0, is_causal=False):
        made.append((q, k, v, dropout_p))
        return kernel(q, k, v, dropout_p=dropout_p, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return made


def test_how_well_a_query_matches_a_key_depends_on_their_distance(calls):
    """With RoPE, for one pair of tokens; and values are not rotated."""
    build(load(ROPE), max_len=40)(torch.tensor([[3] * 40]))
    q, k, v, _ = calls[0]
    scores = (q @ k.transpose(-2, -1))[0]  # (n_head, 40, 40)
    assert torch.allclose(scores[:, 1:, 1:], scores[:, :-1, :-1], rtol=0, atol=1e-12)
    assert scores[:, 0].std(dim=1).min() > 1e-3
    assert torch.allclose(v, v[:, :, :1].expand_as(v), rtol=0, atol=1e-12)


@pytest.mark.parametrize("argv, word", [("--n-head=3", "--n-head"), ("--n-embd=30", "15")])
def test_sizes_that_do_not_fit_together(argv, word, go):
    """32 is no multiple of 3; RoPE cannot rotate a head of 15 numbers in pairs."""
    done = go("train-2.py", argv)
    assert done.status == 1 and done.err.startswith("error: ") and word in done.err
    assert not done.results.exists()


def test_dropout_acts_in_training_only():
    """And what is evaluated is the model without dropout."""
    module, tokens = load("train-2.py"), inputs(4, 10)
    plain, model = (build(module, dropout=share) for share in (0.0, 0.5))
    assert torch.equal(model(tokens), plain(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


def test_dropout_stands_on_attention_weights_attention_output_and_mlp_output(calls):
    """About half of these are zero at 0.5, and nothing is before the projections."""
    model = build(load("train-2.py"), dropout=0.5, n_layer=1)
    layer, zeros = model.layers[0], {}
    parts = {"attn": layer.attn, "mlp": layer.mlp, "fc": layer.mlp.fc}
    for name, part in parts.items():
        part.register_forward_hook(
            lambda part, x, y, name=name: zeros.update({name: (y == 0).double().mean().item()})
        )
    model.train()(inputs(4, 10))
    assert zeros == {
        "attn": pytest.approx(0.5, abs=0.1),
        "mlp": pytest.approx(0.5, abs=0.1),
        "fc": 0,
    }
    model.eval()(inputs(4, 10))
    assert zeros == {"attn": 0, "mlp": 0, "fc": 0}
    assert [dropout for *_, dropout in calls] == [0.5, 0.0]
