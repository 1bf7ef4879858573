"""Between a script and the one that it builds on only the step itself may differ, and the step stays small."""
import ast, difflib, os, re, subprocess, sys

import pytest

import common
from common import CHAIN, ROOT, load

BANNERS = ["Configuration", "Data", "Model", "Training", "Sampling", "Results", "Main"]


def sections(path):
    """{section: [(line number, line)]} in the order of the file; what stands before Configuration, less the
    docstring, is the section "top". Line ends belong to the lines."""
    source = path.read_bytes().decode("utf-8")
    docstring = ast.parse(source).body[0]
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant), f"{path.name}: no docstring"
    parts, current = {"top": []}, "top"
    for number, line in enumerate(source.split("\n"), start=1):
        if banner := re.match(r"# --- (.*) ---", line):
            current = banner[1]
            assert current not in parts, f"{path.name} line {number}: a second section {current}"
            parts[current] = []
        if number > docstring.end_lineno:
            parts[current].append((number, line))
    return parts


def violation(path, base, changes):
    """None, or where `path` first differs from `base` outside the docstring, Configuration and `changes`."""
    ours, theirs = sections(path), sections(base)
    if list(ours) != list(theirs):
        return f"{path.name}: the sections are {list(ours)}, those of {base.name} {list(theirs)}"
    for name in ours:
        if name == "Configuration" or name in changes: continue
        for a, b in zip(ours[name] + [(None, None)], theirs[name] + [(None, None)]):
            if a[1] != b[1]:
                return (f"{path.name} line {a[0] or ours[name][-1][0]}, section {name}: {a[1]!r} is not {b[1]!r}, "
                        f"{base.name} line {b[0] or theirs[name][-1][0]}")
            if a[1] is None: break


def changed_lines(a, b):
    """How many lines `diff a b` prints with `<` or `>`; both are lists of lines."""
    return sum(line[0] in "+-" for line in difflib.unified_diff(a, b, n=0) if line[:3] not in ("+++", "---"))


def lines(path, *names):
    return [line for name, part in sections(path).items() if not names or name in names for _, line in part]


def test_the_eight_steps_are_there(scripts):
    assert len(scripts) == 8


def test_only_the_step_differs(script):
    module = load(script)
    assert set(module.CHANGES) <= set(BANNERS) - {"Configuration"}
    if module.BUILDS_ON is None:
        assert script.name == "train-2-baseline.py"
    else:
        base = ROOT / module.BUILDS_ON
        assert base.exists(), f"{script.name} builds on {module.BUILDS_ON}, which is not there"
        assert (message := violation(script, base, module.CHANGES)) is None, message


@pytest.mark.parametrize("old, new, section", [
    ("import torch", "import  torch", "top"),
    ("weights_only=True", "weights_only=False", "Main"),
    ("PAD, BOUNDARY = 0, 1", "PAD, BOUNDARY = 0,  1", "Data"),
    ("optimizer.step()\n", "optimizer.step()\n        pass\n", "Training"),
    ("    model.eval()\n", "", "Sampling"),
    ('if __name__ == "__main__": main()', 'if __name__ == "__main__": main()\nmain', "Main"),
    ("    model.eval()\n", "    model.eval()\r\n", "Sampling"),
    ("# --- Sampling ---", "# --- Drawing ---", "the sections are"),
])
def test_a_tampered_copy_is_found(tmp_path, old, new, section):
    base, copy = ROOT / "train-2-2head.py", tmp_path / "train-2-mine.py"
    source = base.read_bytes().decode()
    place = source.index(old, source.index("# --- Sampling") if section == "Sampling" else 0)
    copy.write_bytes((source[:place] + new + source[place + len(old):]).encode())
    message = violation(copy, base, ("Model",))
    assert copy.name in message and section in message and base.name in message
    if not old.startswith("#"):
        number = re.search(r"line (\d+)", message)[1]
        tampered = source[:place].count("\n") + 1 + ("\nmain" in new) + ("pass" in new)
        assert int(number) == tampered, message


def test_what_a_step_may_change_is_no_violation(tmp_path):
    base, copy = ROOT / "train-2-2head.py", tmp_path / "train-2-mine.py"
    source = base.read_text("utf-8")
    copy.write_text(source.replace('"""2 heads', '"""Mine.\n\n2 heads').replace('"2 heads"', '"mine"')
                    .replace("        self.n_head = config.n_head\n", "        self.n_head = config.n_head\n\n"), "utf-8")
    assert violation(copy, base, ("Model",)) is None
    assert "Model" in violation(copy, base, ())


def test_the_sections_stand_in_one_order(script):
    assert list(sections(script)) == ["top"] + BANNERS


def test_the_order_of_definitions_stays(step):
    """A definition that a step keeps stands where it stood, so that diff can line the two up."""
    module = load(step)
    if module.BUILDS_ON is None: return
    ours, theirs = (re.findall(r"^(?:class|def|    def) (\w+)", "\n".join(lines(path, "Model")), flags=re.M)
                    for path in (step, ROOT / module.BUILDS_ON))
    kept = difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_matching_blocks()
    assert sum(block.size for block in kept) == len(theirs), f"{theirs} became {ours}"


def test_the_diff_can_be_read_in_one_sitting(step):
    module = load(step)
    if module.BUILDS_ON is None: return
    names = ["Model"] if step.name == "train-2.py" else []
    a, b = lines(ROOT / module.BUILDS_ON, *names), lines(step, *names)
    assert 0 < changed_lines(a, b) < 30


def test_the_diff_is_counted_as_diff_counts_it(tmp_path):
    a, b = (lines(ROOT / name) for name in ("train-2-2head.py", "train-2-2head-4layer.py"))
    for name, part in (("a", a), ("b", b)):
        (tmp_path / name).write_text("\n".join(part) + "\n", "utf-8")
    try:
        out = subprocess.run(["diff", tmp_path / "a", tmp_path / "b"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        pytest.skip("no diff here")
    assert changed_lines(a, b) == sum(line[:1] in ("<", ">") for line in out.splitlines())


def test_no_script_is_longer_than_a_sitting(step):
    length = len(step.read_text("utf-8").splitlines())
    assert length <= (350 if step.name == "train-2-baseline.py" else 430)


def test_labels_and_ancestry(step):
    module = load(step)
    config, *_, builds_on = CHAIN[step.name]
    assert (module.CONFIG, module.BUILDS_ON) == (config, builds_on)
    assert module.CHANGES == (() if step.name in ("train-2-baseline.py", "train-2-double-embd.py") else ("Model",))
    presets = ["64x4", "dropout", "20k", "final", "fast", "best"]
    assert list(module.PRESETS) == (presets if step.name == "train-2.py" else [])


def test_labels_are_distinct(scripts):
    modules = [load(path) for path in scripts]
    labels = [module.CONFIG for module in modules] + [p["label"] for module in modules for p in module.PRESETS.values()]
    assert len(set(labels)) == len(labels)


def test_the_docstring_says_how_to_go_on(step):
    module = load(step)
    assert f"python {step.name}\n" in module.__doc__
    base = module.BUILDS_ON
    assert re.search(rf"diff {base} {step.name}\n" if base else rf"diff {step.name} train-\S+\.py\n", module.__doc__)


def test_the_metadata_is_a_subset_of_requirements(script):
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", script.read_text("utf-8"), flags=re.M)[1]
    data = dict(re.findall(r"^# ([\w-]+) = (.+)$", block, flags=re.M))
    assert ast.literal_eval(data["requires-python"]) == ">=3.10"
    def plain(line): return re.sub(r"\s", "", line).replace("'", '"')
    pinned = {plain(line) for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()}
    needed = {plain(line) for line in ast.literal_eval(data["dependencies"])}
    assert needed and needed <= pinned, needed - pinned
    assert any(line.startswith("torch==") for line in needed)


def test_importing_does_nothing(script, tmp_path, capfd, monkeypatch):
    import signal, torch
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / script.name).write_bytes(script.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.name, "--no-such-flag"])
    def settings():
        return (torch.get_num_threads(), torch.is_anomaly_enabled(), torch.get_default_dtype(),
                torch.get_rng_state().tolist(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM),
                dict(os.environ), os.getcwd())
    torch.set_num_threads(2)  # put back by a fixture
    files, before = common.tree(tmp_path), settings()
    load(folder / script.name)
    assert settings() == before
    assert common.tree(tmp_path) == files
    assert tuple(capfd.readouterr()) == ("", "")
