"""The README's promise: copy a script, change one thing, run it, and the report shows it with its interval and diff."""

import hashlib, math, re, shutil, subprocess, sys

import pytest, torch

import common
from common import CHAIN, ROOT, read_table
from test_identity import violation

sys.path.insert(0, str(ROOT / "results"))
import report

*_, LN, ROPE, LAST = CHAIN
GELU, SILU = (
    "        x = F.%s(self.fc(x))  # (B, T, 4 * n_embd)" % name for name in ("gelu", "silu")
)
ADAMW = "    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)"
SGD = "    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=0.9)"
LABEL, BASE = 'CONFIG = "+ GELU"', f'BUILDS_ON = "{ROPE}"'
MODEL, BOTH = 'CHANGES = ("Model",)', 'CHANGES = ("Model", "Training")'


@pytest.fixture
def root(tmp_path, names):
    """A repository of its own; a small file is its names.txt, a few steps the default: all runs are canonical."""
    root = tmp_path / "repository"
    (root / "data").mkdir(parents=True), (root / "results").mkdir()
    shutil.copy(names, root / "data" / "names.txt")
    shutil.copy(ROOT / "results" / "published.csv", root / "results")
    sha = hashlib.sha256(names.read_bytes()).hexdigest()
    for name in CHAIN:
        shutil.copy(ROOT / name, root)
        old = re.search("^SHA256 = .*$", (root / name).read_text("utf-8"), flags=re.M)[0]
        edit(root / name, old, f'SHA256 = "{sha}"')
    edit(root / LAST, "steps: int = knob(5000,", "steps: int = knob(6,")
    edit(root / LAST, "batch_size: int = knob(32,", "batch_size: int = knob(8,")
    blocks = (f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in report.BLOCKS)
    (root / "README.md").write_text("# Names\n\n" + "\n".join(blocks), "utf-8")
    return root


def edit(path, old, new):
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), "utf-8")


def block(root, name):
    """A block of the README as it now is."""
    text = (root / "README.md").read_text("utf-8")
    return text.split(f"<!-- {name}:begin -->\n")[1].split(f"<!-- {name}:end -->")[0]


def signed(value):
    return f"{value:+.4f}".replace("-", "−")


@pytest.mark.parametrize(
    "name, label, edits",
    (
        ("train-2-silu.py", "+ SiLU", [(GELU, SILU)]),
        ("train-2-sgd.py", "with SGD", [(MODEL, BOTH), (ADAMW, SGD)]),
    ),
    ids=["model", "optimizer"],
)
def test_a_step_of_ones_own(root, monkeypatch, name, label, edits):
    """Both scripts trained for real on two seeds: its row, its place, its interval and its diff are in the README."""
    pytest.importorskip("matplotlib")
    path = root / name
    shutil.copy(root / LAST, path)
    edits = [(LABEL, f'CONFIG = "{label}"'), (BASE, f'BUILDS_ON = "{LAST}"'), *edits]
    for old, new in edits:
        edit(path, old, new)
    for script in LAST, name:
        for seed in range(2):
            common.load(root / script, fresh=True).main(["--device", "cpu", "--seed", str(seed)])
    report.main([], root=root)

    table = root / "results" / "results.csv"
    rows = {(row["script"], int(row["seed"])): row for row in read_table(table)}
    assert len(rows) == 4
    assert {(row["overrides"], row["data"], row["steps"]) for row in rows.values()} == {
        ("", "names.txt", "6")
    }
    tests, bases = (
        [float(rows[script, seed]["test"]) for seed in range(2)] for script in (name, LAST)
    )
    first, second = (own - base for own, base in zip(tests, bases))
    mean, half = (
        (first + second) / 2,
        12.706205 * abs(first - second) / 2,
    )  # Student's t with 1 degree of freedom
    assert half > 1e-4 and mean != 0, "two steps that come out alike prove nothing"

    lines = [
        line.strip("| ").split(" | ")
        for line in block(root, "comparison").splitlines()
        if line.startswith("| [")
    ]
    assert [line[0] for line in lines[-2:]] == [
        f"[+ GELU]({LAST})",
        f"[{label}]({name})",
    ]  # right after it
    cells = lines[-1]
    assert cells[1:3] == [f"{int(rows[name, 0]['params']):,}", "2"]
    assert cells[4] == f"{sum(tests) / 2:.4f}<br>±{abs(tests[0] - tests[1]) / math.sqrt(2):.4f}"
    interval = f"{signed(mean - half)} to {signed(mean + half)}"
    may_be_zero = abs(mean) <= half
    assert cells[-1].split("<br>") == [signed(mean), interval] + ["*may be zero*"] * may_be_zero

    assert "- **+ GELU**: " in block(root, "samples") and label not in block(
        root, "samples"
    )  # the chain ends there

    own = block(root, "chain").split("<details>")[-1]
    assert f"<summary><b>{label}</b>: " in own
    assert (
        f"against + GELU: {signed(mean)} nats per character (95% interval {interval}"
        f"{', not distinguishable from zero' * may_be_zero}; 2 seeds)"
    ) in own
    diff = own.split("```diff\n")[1].split("\n```")[0].splitlines()
    for sign, changed in ("-", [old for old, _ in edits]), ("+", [new for _, new in edits]):
        assert [line[1:] for line in diff if line[0] == sign] == changed
    assert (
        diff[0] == "@@ Configuration @@"
        and f"@@ {'Training' if 'SGD' in label else 'Model'} @@" in diff
    )
    report.main(["--check"], root=root)


def test_the_identity_check_knows_what_a_step_may_change(root):
    """A step with another optimizer has to say so; if not, file and line are named."""
    path = root / "train-2-sgd.py"
    shutil.copy(root / LAST, path)
    for old, new in (
        (LABEL, 'CONFIG = "with SGD"'),
        (BASE, f'BUILDS_ON = "{LAST}"'),
        (MODEL, BOTH),
        (ADAMW, SGD),
    ):
        edit(path, old, new)
    module = common.load(path)
    assert (
        module.CHANGES == ("Model", "Training")
        and violation(path, root / module.BUILDS_ON, module.CHANGES) is None
    )
    line = path.read_text("utf-8").splitlines().index(SGD) + 1
    message = violation(path, root / module.BUILDS_ON, ("Model",))
    assert f"{path.name} line {line}, section Training: " in message and LAST in message


# --- The one that the README shows how to make ---
def commands():
    """The commands of the README's section on it that make the script, and not those that run it."""
    section = (
        (ROOT / "README.md").read_text("utf-8").split("\n## Your own step\n")[1].split("\n## ")[0]
    )
    fences = re.findall(r"^```\w*\n(.*?)^```$", section, flags=re.M | re.S)
    found = [text for text in fences if report.WALKTHROUGH in text]
    if not found:
        pytest.skip(f"the README does not make {report.WALKTHROUGH}")
    return re.split(r"^(?:python|for) ", found[0], flags=re.M)[0]


def test_the_walkthrough_makes_the_script_that_was_run(root):
    """Learned positions, and nothing of RoPE; rows of it in the table are of what these commands make."""
    if not shutil.which("bash") or not shutil.which("sed"):
        pytest.skip("no bash or no sed here")
    for name in CHAIN:
        shutil.copy(ROOT / name, root)  # as they are
    before = common.tree(root)
    subprocess.run(["bash", "-euc", commands()], cwd=root, check=True, capture_output=True)
    assert common.tree(root).keys() - before.keys() == {report.WALKTHROUGH}
    assert {key: value for key, value in common.tree(root).items() if key in before} == before

    path = root / report.WALKTHROUGH
    module, lines = common.load(path), path.read_text("utf-8")
    assert (
        module.CONFIG not in [config for config, *_ in CHAIN.values()] and module.BUILDS_ON in CHAIN
    )
    assert "rope" not in lines.split("# --- Model ---")[1].lower()
    torch.manual_seed(0)
    config, max_len = module.Config(), 17
    model = module.Transformer(config, 28, max_len)
    ((name, positions),) = [item for item in model.named_parameters() if "pos_emb" in item[0]]
    assert positions.shape == (max_len, config.n_embd) and not list(model.buffers())
    assert sum(p.numel() for p in model.parameters()) == CHAIN[LN][5] + max_len * config.n_embd
    tokens = torch.tensor([[1] + [5] * (max_len - 1)])
    logits = model(tokens)
    logits[
        0, 3
    ].sum().backward()  # what position 3 says depends on positions 0 to 3, and on their embeddings
    assert [bool(row.any()) for row in positions.grad] == [True] * 4 + [False] * (max_len - 4)

    step = report.find_steps(root)[report.WALKTHROUGH]
    assert violation(path, root / LN, module.CHANGES) is None and step.label == module.CONFIG
    rows = [
        row
        for row in read_table(ROOT / "results" / "results.csv")
        if row["script"] == report.WALKTHROUGH
    ]
    assert {row["source"] for row in rows} <= {module.source_hash()}
    assert {(row["config"], row["builds_on"]) for row in rows} <= {
        (module.CONFIG, module.BUILDS_ON)
    }
