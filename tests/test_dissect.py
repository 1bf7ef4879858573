"""results/dissect.py: what it reads off trained models, against the same worked out by other means."""

import csv, math, random, re, shutil, sys, types

import pytest, torch, torch.nn.functional as F

import common
from common import ROOT, one_error

sys.path.insert(0, str(ROOT / "results"))
import dissect, report, scripts as tools

LN, ROPE, LAST = list(common.CHAIN)[-3:]
TINY = dict(n_embd=16, n_head=2, n_layer=3, steps=5)
RUNS = [
    (LN, None),
    (ROPE, None),
    (LAST, None),
    (LAST, "final"),
    (LAST, "best"),
]  # that dissect.py looks at


def knobs_of(preset):
    """Tiny for every run; the presets drop half of what they can, which is to be seen nowhere after training."""
    return TINY | (dict(dropout=0.5) if preset else {})


def build(module, seed=0, **knobs):
    torch.manual_seed(seed)
    return module.Transformer(module.Config(**TINY | knobs), 28, 16).eval()


# --- Losses by position ---
def test_position_losses_by_hand(names):
    """Each from the logits of its prefix alone; the names are two to seven long, so few reach the last positions."""
    module = tools.load(LN)
    data = module.load_data(str(names), module.Config(), "cpu")
    model, ids = build(module), {char: token for token, char in enumerate(data.chars, start=2)}
    losses = {}
    for item in data.test_items:
        tokens = [1, *map(ids.get, item), 1]
        for position in range(1, len(tokens)):
            with torch.no_grad():
                logits = model(torch.tensor([tokens[:position]]))[0, -1]
            losses.setdefault(position, []).append(-logits.log_softmax(0)[tokens[position]].item())
    found = dissect.position_losses(module, model, data)
    assert [position for position, *_ in found] == sorted(
        losses
    )  # from the first letter, at 1, to the last boundary
    for position, count, loss in found:
        assert count == len(losses[position])
        assert loss == pytest.approx(sum(losses[position]) / count, abs=1e-5)
    assert found[0][1] == len(data.test_items) > found[-1][1]
    whole = module.mean_loss(module.token_losses(model, data.test), data.test)
    assert sum(count * loss for _, count, loss in found) / sum(
        count for _, count, _ in found
    ) == pytest.approx(whole)


# --- Attention ---
def turned(x, t):
    """The vector at position t under RoPE, dimensions i and i + half as the parts of a complex number."""
    half = len(x) // 2
    angles = [t * 10_000 ** (-2 * i / len(x)) for i in range(half)]
    z = [
        complex(x[i], x[i + half]) * complex(math.cos(a), math.sin(a)) for i, a in enumerate(angles)
    ]
    return torch.tensor([c.real for c in z] + [c.imag for c in z], dtype=torch.float64)


def attention_by_hand(model, tokens, rope, activation):
    """softmax(q k^T / sqrt(d) + causal mask) of every layer and head, from the model's own weights."""
    x, T, found = model.tok_emb.weight[tokens], len(tokens), []
    for layer in model.layers:
        C, n_head = x.size(1), layer.attn.n_head
        d = C // n_head
        q, k, v = (
            layer.ln1(x) @ weight.T for weight in layer.attn.qkv.weight.split(C)
        )  # (T, C) each
        heads, mixed = [], torch.zeros(T, C, dtype=x.dtype)
        for part in (slice(h * d, h * d + d) for h in range(n_head)):
            a, b = (
                [turned(row, t) for t, row in enumerate(y[:, part])] if rope else y[:, part]
                for y in (q, k)
            )
            mask = torch.full((T, T), -math.inf, dtype=x.dtype).triu(1)
            scores = torch.stack([torch.stack([a[i] @ b[j] for j in range(T)]) for i in range(T)])
            heads.append((scores / math.sqrt(d) + mask).softmax(dim=1))
            mixed[:, part] = heads[-1] @ v[:, part]
        found.append(torch.stack(heads))
        x = x + layer.attn.proj(mixed)
        x = x + layer.mlp.proj(activation(layer.mlp.fc(layer.ln2(x))))
    return torch.stack(found), model.head(x)


@torch.no_grad()
@pytest.mark.parametrize("name, rope, activation", ((LN, False, F.relu), (LAST, True, F.gelu)))
def test_attention_weights_are_those_of_the_mathematics(name, rope, activation):
    model, tokens = build(tools.load(name)).double(), torch.tensor([1, 6, 13, 10, 27, 2, 6])
    plain, outputs, kernel = model(tokens[None]), [], F.scaled_dot_product_attention
    model.register_forward_hook(lambda module, args, output: outputs.append(output))
    weights = dissect.attention_weights(model, tokens)
    assert weights.shape == (3, 2, 7, 7)  # (n_layer, n_head, T, T)
    assert torch.allclose(
        weights.sum(-1), torch.ones(3, 2, 7, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert not weights.triu(1).any() and (weights.tril() > 0).sum() == 3 * 2 * 28
    expected, logits = attention_by_hand(model, tokens, rope, activation)
    assert torch.allclose(
        weights, expected, rtol=0, atol=1e-6
    )  # the model's tables of angles are single precision
    assert torch.allclose(
        plain[0], logits, rtol=0, atol=1e-5
    )  # so it was this model that was worked out
    assert not torch.allclose(weights[0], weights[1], rtol=0, atol=1e-4)
    (output,) = outputs
    assert (
        torch.equal(output, plain) and F.scaled_dot_product_attention is kernel
    )  # it looked on, no more


# --- Generated names ---
def test_count_new(monkeypatch):
    """New is a name in neither split, as often as it was drawn; nothing at all is no name."""
    state = dict(chars=["a", "b"], max_len=4, seed=7)
    rows, asked = (
        [[2, 3, 1], [3, 2, 1], [3, 2, 1, 2], [3, 2, 1], [2, 1, 3], [2, 2, 2, 2], [1]],
        [],
    )  # ab ba ba ba a aaa
    model = types.SimpleNamespace(eval=lambda: None)
    monkeypatch.setattr(
        dissect,
        "draw",
        lambda model, state, num, generator: asked.append((num, generator.initial_seed())) or rows,
    )
    assert dissect.count_new(model, state, {"ab", "a", "unseen"}, 7) == 4
    assert dissect.count_new(model, state, set(), 7) == 6
    assert asked == [(7, 7)] * 2  # the names are the run's, by its seed


# --- As a program ---
@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of its own: the scripts that are looked at, and tiny checkpoints as they would write them."""
    root, rng = tmp_path / "project", random.Random(5)
    (root / "data").mkdir(parents=True), (root / "results" / "checkpoints").mkdir(parents=True)
    for name in (LN, ROPE, LAST):
        shutil.copy(ROOT / name, root)
    letters = [chr(97 + i) for i in range(26)]
    items = [
        *letters,
        "elizabetha",
        *("".join(rng.choices("abelizth", k=rng.randint(1, 10))) for _ in range(40)),
    ]
    (root / "data" / "names.txt").write_text("\n".join(items) + "\n")
    monkeypatch.setattr(tools, "ROOT", root)
    monkeypatch.setattr(dissect, "ROOT", root)
    monkeypatch.setattr(dissect, "NUM", 20)
    monkeypatch.setattr(
        dissect,
        "targets",
        lambda only: [
            target._replace(knobs=knobs_of(target.preset)) for target in tools.targets(only)
        ],
    )
    monkeypatch.chdir(root)  # where a script is looked up first
    module = tools.load(LAST)
    data = module.load_data(None, module.Config(), "cpu")
    made = types.SimpleNamespace(root=root, results=root / "results", data=data, states={})

    def path(script, preset, seed):
        return (
            root
            / "results"
            / "checkpoints"
            / f"{'-'.join(filter(None, [script[:-3], preset, f'seed{seed}']))}.pt"
        )

    for seed in range(2):
        for script, preset in RUNS:
            module = tools.load(script)
            config = module.Config(**knobs_of(preset), seed=seed)
            state = vars(config) | dict(
                script=script,
                source=module.source_hash(),
                data_hash=data.hash,
                step=5,
                chars=data.chars,
                max_len=data.max_len,
                model=build(module, seed).state_dict(),
            )
            made.states[script, preset, seed] = state
            torch.save(state, path(script, preset, seed))
    made.path = path
    return made


def read(project, file):
    with open(project.results / file, newline="") as lines:
        header, *rows = csv.reader(lines, strict=True)
    assert header == report.DISSECTED[file]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_it_writes_three_files(project, capsys):
    dissect.main(["--seeds", "2"])
    assert {path.name for path in project.results.iterdir()} == {"checkpoints", *report.DISSECTED}
    positions, attention, generated = (read(project, file) for file in report.DISSECTED)

    def runs(rows):
        return {(row["script"], row["preset"] or None, int(row["seed"])) for row in rows}

    assert runs(positions) == {
        (*run, seed) for run in ((LN, None), (ROPE, None), (LAST, "final")) for seed in (0, 1)
    }
    assert runs(attention) == {(LAST, "final", 0)} and {row["name"] for row in attention} == {
        "elizabeth"
    }
    assert runs(generated) == {
        (LAST, preset, seed) for preset in (None, "final", "best") for seed in (0, 1)
    }
    for row in positions + attention + generated:
        module = tools.load(row["script"])
        made_by = tools.fingerprint(
            module.source_hash(), vars(module.Config(**knobs_of(row["preset"])))
        )
        assert row["source"] == made_by

    module, targets = tools.load(ROPE), (project.data.test[:, 1:] != 0).sum().item()
    mine = [row for row in positions if row["script"] == ROPE and row["seed"] == "1"]
    assert [int(row["position"]) for row in mine] == list(range(1, len(mine) + 1))
    assert sum(int(row["targets"]) for row in mine) == targets
    losses = module.token_losses(build(module, 1), project.data.test)
    assert sum(float(row["loss"]) * int(row["targets"]) for row in mine) == pytest.approx(
        losses.sum().item(), abs=1e-3
    )

    sums = {}  # every query's weights add up to 1, and it looks at nothing after it
    for row in attention:
        at = layer, head, query = tuple(int(row[name]) for name in ("layer", "head", "query"))
        sums[at] = sums.get(at, 0) + float(row["weight"])
        assert int(row["key"]) <= query
    assert sums.keys() == {
        (layer, head, query) for layer in (1, 2, 3) for head in (1, 2) for query in range(10)
    }
    assert all(total == pytest.approx(1, abs=1e-3) for total in sums.values())
    final = build(tools.load(LAST), **knobs_of("final"))  # as a model is that does not train
    tokens = torch.tensor([1, *(project.data.chars.index(char) + 2 for char in "elizabeth")])
    weights = dissect.attention_weights(final, tokens)
    for row in attention:
        layer, head, query, key = (int(row[name]) for name in ("layer", "head", "query", "key"))
        assert float(row["weight"]) == pytest.approx(
            weights[layer - 1, head - 1, query, key].item(), abs=1e-4
        )
    known = {*project.data.train_items, *project.data.test_items}
    for row in generated:
        model = build(tools.load(LAST), int(row["seed"]), **knobs_of(row["preset"]))
        new = dissect.count_new(
            model, project.states[LAST, row["preset"] or None, int(row["seed"])], known, 20
        )
        assert (row["names"], row["new"]) == ("20", str(new))
    assert capsys.readouterr().out.count("wrote ") == 3

    before = {file: (project.results / file).read_bytes() for file in report.DISSECTED}
    dissect.main(["--seeds", "2"])
    assert {
        file: (project.results / file).read_bytes() for file in report.DISSECTED
    } == before  # the same again


def refused(project, capsys, *argv):
    """The one line of a failure that wrote nothing."""
    before = common.tree(project.root)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        dissect.main(list(argv))
    assert stop.value.code == 2 and common.tree(project.root) == before
    return one_error(capsys.readouterr().err)


@pytest.mark.parametrize("name, preset", RUNS)
def test_a_missing_checkpoint(project, capsys, name, preset):
    project.path(name, preset, 1).unlink()
    assert project.path(name, preset, 1).name in refused(project, capsys, "--seeds", "2")


@pytest.mark.parametrize(
    "changes, words",
    (
        (dict(source="0" * 12), "another source"),
        (dict(step=4), "not trained"),
        (dict(learning_rate=0.5), "settings"),
        (dict(data_hash="0" * 12), "other data"),
        (dict(script=LN), LN),
    ),
)
def test_a_checkpoint_that_will_not_do(project, capsys, changes, words):
    """And it says which, of whatever run the last of them is."""
    torch.save(project.states[LAST, "best", 0] | changes, project.path(LAST, "best", 0))
    line = refused(project, capsys, "--seeds", "1")
    assert words in line and re.search("best[ -]+(with )?seed[ ]?0", line)


def test_wrong_use_and_a_damaged_checkpoint(project, capsys):
    assert "--seeds" in refused(project, capsys, "--seeds", "0")
    assert "--seed" in refused(project, capsys, "--seed", "1")
    assert "seed2.pt" in refused(project, capsys, "--seeds", "3")
    project.path(LN, None, 0).write_bytes(b"x")
    assert "damaged" in refused(project, capsys)
