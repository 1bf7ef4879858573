"""Between a script and the one it builds on only the step itself differs, and it stays short."""

import ast
import dataclasses
import difflib
import os
import re

import common
import torch
from common import BANNERS, CHAIN, ROOT, bare, load, sections, violation


def test_only_the_step_differs(step):
    """Metadata and imports, Data, Training, Sampling, Results and Main are equal to the byte."""
    assert violation(step, ROOT / "train-2-baseline.py") is None
    rulers = re.findall(r"^ *# ---.*$", step.read_text("utf-8"), re.M)
    assert rulers == [f"# --- {name} ---" for name in BANNERS]


def test_the_chain(step):
    """Labels, and what each builds on; the configuration begins with it in every script."""
    module = load(step)
    label, *_, base = CHAIN[step.name]
    assert re.fullmatch(re.escape(label) + r": \S.*\.", module.__doc__.splitlines()[0])
    assert module.BUILDS_ON == (base and f"train-2-{base}")
    assert sections(step)["Configuration"].startswith("BUILDS_ON = ")


def test_the_presets_build_on_one_another():
    """The published ones are spelled out; the two recipes of our own are free."""
    module = load("train-2.py")
    wide = {"n_embd": 64, "n_head": 4}
    long = wide | {"dropout": 0.2, "steps": 20_000}
    schedule = {"warmup_steps": 200, "lr_decay_to": 0.1, "weight_decay": 0.01, "grad_clip": 1.0}
    published = {
        "64x4": wide,
        "dropout": wide | {"dropout": 0.2},
        "20k": long,
        "final": long | schedule,
    }
    presets = module.PRESETS
    assert {name: presets[name]["settings"] for name in published} == published
    bases = [preset["builds_on"].removeprefix("train-2@") for preset in presets.values()]
    assert list(presets) == ["64x4", "dropout", "20k", "final", "fast", "best"]
    assert bases == ["train-2", "64x4", "dropout", "20k", "64x4", "final"]
    for preset in presets.values():
        config = module.Config(**preset["settings"])
        assert (config.n_embd, config.n_head, config.n_layer) == (64, 4, 4)
    labels = [preset["label"] for preset in presets.values()] + [row[0] for row in CHAIN.values()]
    assert len(set(labels)) == len(labels)


def test_a_model_changes_as_little_as_the_step_allows(step):
    """Under 30 lines of code added, or none where only a setting differs."""
    base = load(step).BUILDS_ON
    if base:
        old, new = bare(ROOT / f"{base}.py", "Model"), bare(step, "Model")
        added = [line for line in difflib.ndiff(old, new) if line.startswith("+")]
        assert len(added) < 30 and bool(added) == (step.stem != "train-2-double-embd")


def test_a_script_has_no_setting_that_it_does_not_use(step):
    """The training settings are the same in all, with the same defaults."""
    module = load(step)
    _, n_embd, head_size, n_head, n_layer, *_ = CHAIN[step.name]
    config = dataclasses.asdict(module.Config())
    shape = {"n_embd": n_embd, "head_size": head_size, "n_head": n_head, "n_layer": n_layer}
    shape.pop("n_head" if n_head == 1 else "head_size")
    if n_layer == 1:
        shape.pop("n_layer")
    if step.name == "train-2.py":
        shape["dropout"] = 0.0
    training = {"steps": 5000, "batch_size": 32, "learning_rate": 1e-3, "lr_decay_to": 1.0}
    training |= {"warmup_steps": 0, "weight_decay": 0.0, "grad_clip": 0.0, "eval_interval": 500}
    training |= {"seed": 0, "split_seed": 42, "threads": 1, "validate": False}
    assert config == shape | training


def test_the_metadata_is_a_subset_of_requirements():
    """So that `uv run` installs what the environment of the project has."""
    text = (ROOT / "train-2.py").read_text("utf-8")
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", text, re.M)[1]
    metadata = dict(re.findall(r"^# ([\w-]+) = (.+)$", block, re.M))
    assert ast.literal_eval(metadata["requires-python"]) == ">=3.11"
    needed = set(ast.literal_eval(metadata["dependencies"]))
    assert needed <= {*(ROOT / "requirements.txt").read_text("utf-8").splitlines()}
    assert any(line.startswith("torch==") for line in needed)


def test_a_script_imports_nothing_of_the_project():
    """Its imports stand in what is equal in all eight."""
    own = {path.stem for path in ROOT.rglob("*.py") if ".venv" not in path.parts} | {"results"}
    for node in ast.walk(ast.parse((ROOT / "train-2.py").read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module.split(".")[0] not in own
        elif isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & own


def test_loading_does_nothing(step, tmp_path, capfd, monkeypatch):
    """Nothing printed, nothing written, torch and the process as they were."""
    copy = tmp_path / "copy" / step.name
    copy.parent.mkdir()
    copy.write_bytes(step.read_bytes())
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)  # neither its default nor what a run sets

    def settings():
        rng = torch.get_rng_state().tolist()
        flags = torch.is_anomaly_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()
        return torch.get_num_threads(), rng, flags, dict(os.environ), os.getcwd()

    before, files = settings(), common.tree(tmp_path)
    load(copy)
    assert settings() == before and common.tree(tmp_path) == files
    assert tuple(capfd.readouterr()) == ("", "")
