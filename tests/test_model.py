"""The models: a reference written out by loops, what a logit may depend on, dropout."""

import cmath
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from common import CHAIN, load

ROPE = "train-2-2head-4layer-mlp-ln-rope.py"


def build(module, max_len=20, **settings):
    """A model as a run makes it, in double precision from the start and without dropout."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        return module.Transformer(module.Config(**settings), 28, max_len).eval()
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
        return F.layer_norm(x, x.shape[1:], w[f"{name}.weight"], w[f"{name}.bias"])

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
            x = x + linear(f"{here}mlp.proj", gelu if step == "train-2.py" else z.clamp(min=0))
    return linear("lm_head", x)


def test_a_model_is_its_mathematics(step):
    """Its size, and what it computes: attention, what is added, normalised, rotated, and where."""
    _, _, _, n_head, n_layer, parameters, _ = CHAIN[step.name]
    module = load(step)
    assert sum(p.numel() for p in build(module).parameters()) == parameters
    odd = {"n_embd": 18, **({"n_head": 3} if n_head > 1 else {"head_size": 5})}
    for settings in ({}, odd):
        model = build(module, **settings)
        with torch.no_grad():
            for p in model.parameters():  # away from ones, zeros, and a softmax that is flat
                p.add_(torch.randn_like(p), alpha=0.1)
            tokens = inputs(1, 7)
            heads = settings.get("n_head", n_head)
            expected = reference(step.name, model.state_dict(), tokens[0], heads, n_layer)
            assert torch.allclose(model(tokens)[0], expected, rtol=0, atol=1e-9)


def test_attention_is_that_of_pytorch(step):
    """Whatever the number of heads and the length of the names; dropout is off."""
    torch.manual_seed(0)
    module = load(step)
    names = [entry.name for entry in dataclasses.fields(module.Config)]
    own = {"dropout": 0.5} if "dropout" in names else {}
    for key, number in [("n_head", n) for n in (1, 2, 4, 8)] + [("head_size", 5)]:
        if key not in names:
            continue
        config = module.Config(**own, **{key: number})
        attention = module.Attention(config, 20).eval()
        torch.nn.init.normal_(attention.qkv.weight, std=0.3)  # far from a flat softmax
        heads = number if key == "n_head" else 1
        for length in (1, 7, 20):
            x = torch.randn(3, length, config.n_embd)
            parts = attention.qkv(x).view(3, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            q, k, v = parts  # (3, heads, length, head_size) each
            rope = (module.rope_table(q.size(-1), 20),) if has(step.name, ROPE) else ()
            if rope:
                q, k = (module.rotate(y, *rope) for y in (q, k))
            expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            expected = expected.transpose(1, 2).flatten(2)
            expected = attention.proj(expected) if hasattr(attention, "proj") else expected
            assert torch.allclose(attention(x, *rope), expected, rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("argv, word", [("--n-head=3", "--n-head"), ("--n-embd=30", "15")])
def test_sizes_that_do_not_fit_together(argv, word, go):
    """32 is no multiple of 3; RoPE cannot rotate a head of 15 numbers in pairs."""
    done = go("train-2.py", argv)
    assert done.status == 1 and done.err.startswith("error: ") and word in done.err
    assert not done.results.exists()


def test_dropout_in_training_only():
    """On attention weights, attention output and MLP output: about half are zero at 0.5."""
    module, tokens = load("train-2.py"), inputs(4, 10)
    plain, model = (build(module, dropout=share, n_layer=1) for share in (0.0, 0.5))
    assert torch.equal(model(tokens), plain(tokens))
    dropped = []

    def watched(part, x, y):
        dropped.append((list(y.shape), (y[x[0] != 0] == 0).double().mean().item()))

    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.register_forward_hook(watched)
    assert not torch.equal(model.train()(tokens), model(tokens))
    half = pytest.approx(0.5, abs=0.1)
    shapes = [4, 2, 10, 10], [4, 10, 32], [4, 10, 32]
    assert dropped == [(shape, half) for shape in shapes] * 2
    dropped.clear()
    model.eval()(tokens)
    assert dropped == [(shape, 0) for shape in shapes]
