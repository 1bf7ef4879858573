"""Between a script and the one it builds on only the step itself differs, and it stays short."""

import ast
import difflib
import os
import re
import sys

import common
import pytest
import torch
from common import BANNERS, CHAIN, ROOT, SCRIPTS, bare, load, sections, violation

sys.path.insert(0, str(ROOT / "results"))

from lib.steps import applied


def base_of(module):
    """The file that a script builds on; BUILDS_ON may name a preset of it as well."""
    return ROOT / module.BUILDS_ON.split(" --preset ")[0] if module.BUILDS_ON else None


def test_the_eight_steps_are_there():
    assert {ROOT / name for name in CHAIN} <= set(SCRIPTS)


def test_only_the_step_differs(script):
    module = load(script)
    assert set(module.CHANGES) <= set(BANNERS) - {"Configuration"}
    if script.name == "train-2-baseline.py":
        assert module.BUILDS_ON is None
    else:
        base = base_of(module)
        if base.exists():
            message = violation(script, base, module.CHANGES)
        else:  # it may be an idea
            with applied(ROOT) as folder:
                message = violation(script, folder / base.name, module.CHANGES)
        assert message is None, message


def test_all_scripts_have_the_same_sections_in_order(script):
    assert list(sections(script)) == ["top", *BANNERS]
    rulers = re.findall(r"^# ---.*$", script.read_text("utf-8"), re.M)  # they end a section too
    assert rulers == [f"# --- {name} ---" for name in BANNERS]


@pytest.mark.parametrize(
    "old, new, section",
    [
        ("import torch\n", "import  torch\n", "top"),
        ("PAD, BOUNDARY = 0, 1", "PAD, BOUNDARY = 0,  1", "Data"),
        ("optimizer.step()\n", "optimizer.step()\n        pass\n", "Training"),
        ("    model.eval()\n    device", "    device", "Sampling"),
        ("    model.eval()\n    device", "    model.eval()\r\n    device", "Sampling"),
        ("weights_only=True", "weights_only=False", "Results"),
        ("    run()\n", "    run()\nrun\n", "Main"),
    ],
)
def test_a_tampered_copy_is_found(old, new, section, tmp_path):
    """The message names the section, the file and the line."""
    base, copy = ROOT / "train-2-2head.py", tmp_path / "train-2-mine.py"
    before, found, after = base.read_bytes().decode().rpartition(old)
    assert found
    copy.write_bytes((before + new + after).encode())
    message = violation(copy, base, ("Model",))
    same_start = os.path.commonprefix([old, new]).count("\n")
    line = before.count("\n") + same_start + 1
    assert f"{copy.name} line {line}, section {section}" in message and base.name in message


def test_the_diff_shows_the_idea_and_nothing_else(step):
    """Under 30 lines added in Model, blank lines and docstrings apart."""
    module = load(step)
    if module.BUILDS_ON is None:
        return
    old, new = (bare(path, "Model") for path in (base_of(module), step))
    added = [line for line in difflib.ndiff(old, new) if line.startswith("+")]
    assert (0 < len(added) < 30) if "Model" in module.CHANGES else not added


def test_nothing_is_too_long(step):
    """What a learner reads, what records the run, and the whole."""
    lines = step.read_text("utf-8").splitlines()
    learner = lines.index("# --- Results ---")
    assert step.name != "train-2-baseline.py" or learner <= 300
    assert len(lines) - learner <= 260
    assert len(lines) <= 650


def test_no_function_is_too_long(script):
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 45, f"{node.name} has {length} lines"


def test_labels_and_ancestry(step):
    module = load(step)
    label, *_, base = CHAIN[step.name]
    assert (module.LABEL, module.BUILDS_ON) == (label, base and f"train-2-{base}.py")
    same_code = step.name in ("train-2-baseline.py", "train-2-double-embd.py")
    assert module.CHANGES == (() if same_code else ("Model",))
    presets = ["64x4", "dropout", "20k", "final", "fast", "best"]
    assert list(module.PRESETS) == (presets if step.name == "train-2.py" else [])


def test_the_docstring_says_how_to_run_it_and_what_to_compare(step):
    module = load(step)
    commands = module.__doc__.split("\n\n")[-1]
    assert f"python {step.name}\n" in commands
    if module.BUILDS_ON:
        assert f"diff {module.BUILDS_ON} {step.name}\n" in commands
    else:
        assert f"diff {step.name} train-2-" in commands


def test_the_metadata_is_a_subset_of_requirements(script):
    """So that `uv run` installs what the environment of the project has."""
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", script.read_text("utf-8"), re.M)[1]
    metadata = dict(re.findall(r"^# ([\w-]+) = (.+)$", block, re.M))
    assert ast.literal_eval(metadata["requires-python"]) == ">=3.11"
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    pinned = {line.partition(";")[0].strip() for line in lines}
    needed = set(ast.literal_eval(metadata["dependencies"]))
    assert needed <= pinned
    assert any(line.startswith("torch==") for line in needed)


def test_a_script_imports_nothing_of_the_project(script):
    own = {path.stem for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module.split(".")[0] not in own
        elif isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & own


def test_loading_does_nothing(script, tmp_path, capfd, monkeypatch):
    """Nothing printed, nothing written, torch and the process as they were."""
    copy = tmp_path / "copy" / script.name
    copy.parent.mkdir()
    copy.write_bytes(script.read_bytes())
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)  # neither its default nor what a run sets

    def settings():
        random = torch.get_rng_state().tolist()
        flags = torch.is_anomaly_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()
        return torch.get_num_threads(), random, flags, dict(os.environ), os.getcwd()

    before, files = settings(), common.tree(tmp_path)
    load(copy)
    assert settings() == before
    assert common.tree(tmp_path) == files
    assert tuple(capfd.readouterr()) == ("", "")
