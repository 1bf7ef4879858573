"""The models: a reference of PyTorch's own parts, what a logit may depend on, dropout."""

import cmath
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
    """PyTorch's own attention, causal: (T, width) -> (T, gathered)."""
    heads = [part.unflatten(1, (n_head, -1)).transpose(0, 1) for part in (x @ weight.T).chunk(3, 1)]
    if rope:
        for head in [*heads[0], *heads[1]]:  # of queries and keys: (T, head_size) each
            head.copy_(torch.stack([rotated(row, t) for t, row in enumerate(head)]))
    gathered = F.scaled_dot_product_attention(*heads, is_causal=True)
    return gathered.transpose(0, 1).flatten(1)


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
    size = {"n_embd": 12} if n_head > 1 else {}
    for n in (1, 2, 3) if n_head > 1 else (5, 16):
        model = build(module, **size, **{"n_head" if n_head > 1 else "head_size": n})
        with torch.no_grad():
            for p in model.parameters():  # away from ones, zeros, and a softmax that is flat
                p.add_(torch.randn_like(p), alpha=0.1)
            for length in 1, 7, 20:
                tokens, heads = inputs(1, length), n if n_head > 1 else 1
                expected = reference(step.name, model.state_dict(), tokens[0], heads, n_layer)
                assert torch.allclose(model(tokens)[0], expected, rtol=0, atol=1e-9)


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
