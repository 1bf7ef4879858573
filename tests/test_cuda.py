"""The scripts on a GPU."""

import subprocess
import sys

import pytest
import torch
from common import ROOT, assert_twins, checkpoint, load, read_table, stop_at

DEVICE = "cuda"
if not torch.cuda.is_available():
    pytest.skip("no CUDA here", allow_module_level=True)

NAMES = ROOT / "data" / "names.txt"


def start(module, device, file, config):
    """Data, model, optimizer and state of a run, as main() makes them."""
    torch.set_num_threads(1)
    data = module.load_data(file, config, device)
    model = module.make_model(config, data, device)
    return model, module.make_optimizer(model, config), data, {"step": 0, "seconds": 0, "curve": []}


def trained(step, device):
    """The curve and the final losses of a run of 300 steps."""
    module = load(step)
    config = module.Config(steps=300, eval_interval=100)
    model, optimizer, data, state = start(module, device, NAMES, config)
    module.train(model, optimizer, data, config, state, None)
    return state["curve"], module.final_losses(model, data)


@pytest.mark.skipif(not NAMES.exists(), reason="data/names.txt is not there")
def test_training_agrees_with_the_cpu(step):
    """The same initialisation and batches: losses within 0.01 after 100, 200 and 300 steps."""
    (curve, losses), (cpu_curve, cpu_losses) = trained(step, DEVICE), trained(step, "cpu")
    assert [at for at, *_ in curve] == [100, 200, 300]
    for ours, theirs in zip(curve, cpu_curve, strict=True):
        assert ours == pytest.approx(theirs, abs=0.01)
    assert losses == pytest.approx(cpu_losses, abs=0.01)


def test_a_resumed_run_ends_like_an_uninterrupted_one(go, names, tmp_path, monkeypatch):
    """To the bit; stopped between two evaluations, and resumed in another process.

    This needs kernels that give the same bits each time, so two whole runs are compared first.
    """
    flags = "--steps 300 --eval-interval 60 --dropout 0.2 --grad-clip 1 --lr-decay-to 0.1".split()
    flags += ["--device", DEVICE]

    def run(folder):
        return go("train-2.py", *flags, small=False, results=folder).results

    twin = run("twin")
    assert_twins(run("again"), twin)
    (path,), (row,) = twin.glob("checkpoints/*"), read_table(twin / "results.csv")
    assert f"-{DEVICE}-seed" in path.name and row["device"].startswith(f"{DEVICE} (")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(load("train-2.py"), 200, patch)
        run("stopped")
    stopped = tmp_path / "stopped"
    assert checkpoint(stopped)["step"] == 180
    flags += ["--data", names, "--results-dir", stopped, "--resume"]
    subprocess.run([sys.executable, ROOT / "train-2.py", *flags], check=True, timeout=120)
    assert_twins(stopped, twin)


def test_no_step_waits_for_the_device(step, names):
    """From the end of the first step, which sets things up, to the evaluation."""
    module = load(step)
    config = module.Config(steps=20, eval_interval=20)
    model, optimizer, data, state = start(module, DEVICE, names, config)
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
    options, *_ = load("train-2.py").parse([])
    assert options.device == DEVICE
