"""The scripts on a GPU.

Nothing here needs another file of the tests, so that this one also runs alone on a rented machine.
"""

import csv
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

DEVICE = "cuda"
if not torch.cuda.is_available():
    pytest.skip("no CUDA here", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
STEPS = "baseline double-embd 2head 2head-4layer 2head-4layer-mlp 2head-4layer-mlp-ln"
SCRIPTS = [f"train-2-{step}" for step in f"{STEPS} 2head-4layer-mlp-ln-rope".split()] + ["train-2"]
NAMES = ROOT / "data" / "names.txt"
LOSSES = ("train", "test", "test_from_2nd", "test_unseen")


def load(stem):
    """The script as a module."""
    module = types.ModuleType(stem)
    module.__file__ = str(ROOT / f"{stem}.py")
    exec(compile(Path(module.__file__).read_bytes(), stem, "exec"), module.__dict__)
    return module


def start(module, device, file, config):
    """Data, model, optimizer and state of a run, as main() makes them."""
    torch.set_num_threads(1)
    data = module.load_data(file, config, device)
    model = module.make_model(config, data, device)
    return model, module.make_optimizer(model, config), data, {"step": 0, "seconds": 0, "curve": []}


def trained(stem, device):
    """The curve and the final losses of a run of 300 steps."""
    module = load(stem)
    config = module.Config(steps=300, eval_interval=100)
    model, optimizer, data, state = start(module, device, NAMES, config)
    module.train(model, optimizer, data, config, state, None)
    return state["curve"], module.final_losses(model, data)


each_script = pytest.mark.parametrize("stem", SCRIPTS)


@pytest.mark.skipif(not NAMES.exists(), reason="data/names.txt is not there")
@each_script
def test_training_agrees_with_the_cpu(stem):
    """The same initialisation and batches: losses within 0.01 after 100, 200 and 300 steps."""
    (curve, losses), (cpu_curve, cpu_losses) = trained(stem, DEVICE), trained(stem, "cpu")
    assert [step for step, *_ in curve] == [100, 200, 300]
    for ours, theirs in zip(curve, cpu_curve, strict=True):
        assert ours == pytest.approx(theirs, abs=0.01)
    assert losses == pytest.approx(cpu_losses, abs=0.01)


@pytest.fixture
def small(tmp_path):
    """A list of 504 names: what a run costs beside its steps is little."""
    ends = [middle + end for middle in ("", "a", "el", "ino") for end in "aeinorstuvwxyz"]
    names = [start + end for start in "abcdefghi" for end in ends]
    path = tmp_path / "small.txt"
    path.write_text("\n".join(names), "utf-8")
    return path


def finished(folder):
    """What a finished run left: its checkpoint and its row."""
    (path,) = folder.glob("checkpoints/*.pt")
    assert f"-{DEVICE}-seed" in path.name
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["device"].startswith(f"{DEVICE} (")
    return torch.load(path, map_location="cpu", weights_only=True), row


def assert_twins(ours, theirs, what):
    """Equal to the bit."""
    for part in ("model", "optimizer", "rng", "step", "curve"):
        pair = ours[0][part], theirs[0][part]
        message = f"{what} differ in {part}: {{}}".format
        torch.testing.assert_close(*pair, rtol=0, atol=0, msg=message)
    for column in ("samples", "curve", *LOSSES):
        assert ours[1][column] == theirs[1][column], f"{what} differ in {column}"


def test_a_resumed_run_ends_like_an_uninterrupted_one(small, tmp_path, monkeypatch):
    """Stopped between two evaluations, and resumed in another process.

    This needs kernels that give the same bits each time, so two whole runs are compared first.
    """
    module = load("train-2")
    flags = "--steps 300 --eval-interval 60 --dropout 0.2 --grad-clip 1 --lr-decay-to 0.1".split()
    flags += ["--device", DEVICE, "--data", str(small), "--results-dir"]
    for name in ("twin", "again"):
        module.main([*flags, str(tmp_path / name)])
    twin = finished(tmp_path / "twin")
    assert_twins(finished(tmp_path / "again"), twin, "two whole runs")

    rate = module.learning_rate

    def learning_rate(step, config):
        if step == 200:
            raise KeyboardInterrupt
        return rate(step, config)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "learning_rate", learning_rate)
        module.main([*flags, str(tmp_path / "stopped")])
    (path,) = (tmp_path / "stopped").glob("checkpoints/*.pt")
    assert torch.load(path, map_location="cpu", weights_only=True)["step"] == 180
    command = [sys.executable, str(ROOT / "train-2.py"), *flags, str(tmp_path / "stopped")]
    subprocess.run([*command, "--resume"], check=True, timeout=120)
    assert_twins(finished(tmp_path / "stopped"), twin, "a resumed run and a whole one")


@each_script
def test_no_step_waits_for_the_device(stem, small):
    """From the end of the first step, which sets things up, to the evaluation."""
    module = load(stem)
    config = module.Config(steps=20, eval_interval=20)
    model, optimizer, data, state = start(module, DEVICE, small, config)
    watched = []

    def after_step(*_):
        watched.append(torch.cuda.get_sync_debug_mode() == 2)
        last = len(watched) == config.steps
        torch.cuda.set_sync_debug_mode("default" if last else "error")

    optimizer.register_step_post_hook(after_step)
    try:
        module.train(model, optimizer, data, config, state, None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watched == [False] + [True] * 19


def test_the_gpu_is_the_default():
    options, *_ = load("train-2").parse([])
    assert options.device == DEVICE
