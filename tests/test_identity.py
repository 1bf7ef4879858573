"""Between a script and the one it builds on only the step itself differs, and it stays short."""

import ast
import dataclasses
import difflib
import re

import common
import torch
from common import CHAIN, ROOT, assert_only_differs, bare, load, sections

BANNERS = "Configuration Data Model Training Sampling Evaluation Files Results Main".split()
BASE = ROOT / "train-2-baseline.py"


def test_only_the_step_differs(step):
    """All but docstring, Configuration and Model is equal to the byte, in the same order."""
    assert_only_differs(step, BASE, ("Configuration", "Model"))
    rulers = re.findall(r"^ *# ---.*$", step.read_text("utf-8"), re.M)
    assert rulers == [f"# --- {name} ---" for name in BANNERS]
    assert "# The model, its data and its training end here." in sections(step)["Sampling"]


def attention(path):
    """The lines that make the mask, and those from the scores to what a head gathers.

    Comments are part of them; the weights may pass through dropout.
    """
    text = sections(path)["Model"].split("class Attention")[1]
    mask = re.search(r"^(?: +#.*\n)* +mask = .*\n.*_buffer.*\n", text, re.M)[0]
    lines = re.search(r"^(?: +#.*\n)* +scores = q(?:.*\n)*?.*@ v\b.*\n", text, re.M)[0]
    return mask + lines.replace("self.dropout(weights)", "weights")


def test_attention_is_the_same_lines_in_all(step):
    assert attention(step) == attention(BASE)
    assert ("self.dropout(" in sections(step)["Model"]) == (step.stem == "train-2")


def test_label_base_and_size_of_the_step(step):
    """Under 30 lines of code are added to the model, or none where only a setting differs."""
    module = load(step)
    label, *_, base = CHAIN[step.name]
    assert re.fullmatch(re.escape(label) + r": \S.*\.", module.__doc__.splitlines()[0])
    assert module.BUILDS_ON == (base and f"train-2-{base}")
    assert sections(step)["Configuration"].startswith("BUILDS_ON = ")
    if base:
        old, new = bare(ROOT / f"train-2-{base}.py", "Model"), bare(step, "Model")
        added = [line for line in difflib.ndiff(old, new) if line.startswith("+")]
        assert len(added) < 30 and bool(added) == (step.stem != "train-2-double-embd")


def test_the_presets_build_on_one_another():
    """The published ones are spelled out; the two recipes of our own are free."""
    module = load("train-2.py")
    wide = {"n_embd": 64, "n_head": 4}
    dropout = wide | {"dropout": 0.2}
    long = dropout | {"steps": 20_000}
    schedule = {"warmup_steps": 200, "lr_decay_to": 0.1, "weight_decay": 0.01, "grad_clip": 1.0}
    published = {"64x4": wide, "dropout": dropout, "20k": long, "final": long | schedule}
    presets = module.PRESETS
    assert {name: presets[name]["settings"] for name in published} == published
    bases = [preset["builds_on"].removeprefix("train-2@") for preset in presets.values()]
    assert list(presets) == ["64x4", "dropout", "20k", "final", "fast", "best", "long"]
    assert bases == ["train-2", "64x4", "dropout", "20k", "64x4", "final", "train-2"]


def test_a_script_has_no_setting_that_it_does_not_use(step):
    """The training settings are the same in all, with the same defaults."""
    _, n_embd, head_size, n_head, n_layer, *_ = CHAIN[step.name]
    shape = {"n_embd": n_embd}
    shape |= {"head_size": head_size} if n_head == 1 else {"n_head": n_head}
    shape |= {"n_layer": n_layer} if n_layer > 1 else {}
    shape |= {"dropout": 0.0} if step.name == "train-2.py" else {}
    training = {"steps": 5000, "batch_size": 32, "learning_rate": 1e-3, "lr_decay_to": 1.0}
    training |= {"warmup_steps": 0, "weight_decay": 0.0, "grad_clip": 0.0, "eval_interval": 500}
    training |= {"seed": 0, "split_seed": 42, "threads": 1, "validate": False}
    assert dataclasses.asdict(load(step).Config()) == shape | training


def test_a_script_stands_alone():
    """It imports nothing of the project, and requirements.txt has what it depends on."""
    text = (ROOT / "train-2.py").read_text("utf-8")  # its top is the same in all eight
    metadata = dict(re.findall(r"^# ([\w-]+) = (.+)$", text, re.M))
    assert ast.literal_eval(metadata["requires-python"]) == ">=3.11,<3.15"
    needed = set(ast.literal_eval(metadata["dependencies"]))
    assert needed <= {*(ROOT / "requirements.txt").read_text("utf-8").splitlines()}
    assert any(line.startswith("torch==") for line in needed)
    own = {path.stem for path in ROOT.rglob("*.py") if ".venv" not in path.parts} | {"results"}
    imported = re.findall(r"^ *(?:from|import) ([\w.]+)", text, re.M)
    assert "argparse" in imported
    assert not any(name.startswith(".") or name.split(".")[0] in own for name in imported)


def test_loading_does_nothing(tmp_path, capfd, monkeypatch):
    """Nothing is printed or written, and PyTorch's state stays as it is."""
    copy = tmp_path / "train-2.py"
    copy.write_bytes((ROOT / "train-2.py").read_bytes())
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)  # neither its default nor what a run sets
    rng, files = torch.get_rng_state(), common.tree(tmp_path)
    load(copy)
    assert common.tree(tmp_path) == files
    assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), rng)
    assert tuple(capfd.readouterr()) == ("", "")
