"""The scripts on a GPU. `pytest -s tests/test_cuda.py` prints times and memory; minutes at most.

Nothing here needs another file of the tests, so that this one also runs alone on a rented machine.
"""

import csv
import subprocess
import sys
import types
from functools import cache
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
    exec(compile(Path(module.__file__).read_text("utf-8"), stem, "exec"), module.__dict__)
    return module


def start(module, device, file, config):
    """Data, model, optimizer and state of a run, as main() makes them."""
    torch.set_num_threads(1)
    data = module.load_data(file, config, device)
    torch.manual_seed(config.seed)
    model = module.Transformer(config, len(data.chars) + 2, data.max_len).to(device)
    return model, module.make_optimizer(model, config), data, {"step": 0, "seconds": 0, "curve": []}


@cache
def trained(stem, device):
    """A run of 300 steps: what the tests below look at. The first 100 steps are no part of `ms`."""
    module = load(stem)
    config = module.Config(steps=300, eval_interval=100)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    model, optimizer, data, state = start(module, device, NAMES, config)
    evaluate, seconds = module.evaluate, []

    def noted(*args):
        seconds.append(state["seconds"])
        evaluate(*args)

    module.evaluate = noted
    module.train(model, optimizer, data, config, state, None)
    losses = module.final_losses(model, data)
    run = types.SimpleNamespace(module=module, config=config, model=model, data=data)
    run.losses, run.curve, run.ms = losses, state["curve"], (seconds[2] - seconds[0]) * 1000 / 200
    run.mib = (torch.cuda.max_memory_allocated() - held) / 2**20 if device != "cpu" else None
    return run


needs_names = pytest.mark.skipif(not NAMES.exists(), reason="data/names.txt is not there")
each_script = pytest.mark.parametrize("stem", SCRIPTS)


@needs_names
@each_script
def test_training_agrees_with_the_cpu(stem):
    """The same initialisation and batches: losses within 0.01 after 100, 200 and 300 steps."""
    there, here = trained(stem, DEVICE), trained(stem, "cpu")
    times = f"{there.ms:.2f} ms/step, on the CPU {here.ms:.2f}"
    print(f"\n{stem}: {times}; peak memory {there.mib:.1f} MiB")
    assert [step for step, *_ in there.curve] == [100, 200, 300]
    for ours, theirs in zip(there.curve, here.curve, strict=True):
        assert ours == pytest.approx(theirs, abs=0.01)
    for key in LOSSES:
        assert there.losses[key] == pytest.approx(here.losses[key], abs=0.01)


@needs_names
@each_script
def test_final_losses_agree_with_the_cpu(stem):
    """Of the same weights."""
    run = trained(stem, DEVICE)
    config, module = run.config, run.module
    model, _, data, _ = start(module, "cpu", NAMES, config)
    model.load_state_dict({key: value.cpu() for key, value in run.model.state_dict().items()})
    losses = module.final_losses(model, data)
    for key in LOSSES:
        assert run.losses[key] == pytest.approx(losses[key], abs=1e-4)


@needs_names
@each_script
def test_names_from_a_model_on_the_device(stem):
    run = trained(stem, DEVICE)
    run.model.train()
    args = 20, torch.Generator().manual_seed(1), "an"
    names = run.module.generate(run.model, run.data, *args, temperature=0.8, top_k=5)
    assert run.model.training and next(run.model.parameters()).device.type == DEVICE
    assert len(names) == 20 and len(set(names)) > 1
    longest = run.data.max_len - 1
    for name in names:
        assert name.startswith("an") and len(name) <= longest and set(name) <= set(run.data.chars)


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


def test_a_resumed_run_ends_like_its_twin(small, tmp_path, monkeypatch):
    """Stopped at a step between two evaluations, and resumed in a process of its own.

    That rests on kernels which give the same bits each time, so two whole runs are compared first.
    The one that may not is the backward of attention in the memory-efficient kernel: where keys are
    more than one block of 64 it may split them over blocks, and these then add to the gradient of
    the queries in any order. Names of up to 63 letters are one block. Longer ones need
    torch.use_deterministic_algorithms(True), with CUBLAS_WORKSPACE_CONFIG=:4096:8 set.
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


class Watched:
    """A run in which every synchronisation between two evaluations is an error.

    From the end of the first step, which sets things up, and of each evaluation, to the last
    step before an evaluation; the batches are moved to the device before.
    """

    def __init__(self, module, file, monkeypatch):
        config = module.Config(steps=40, eval_interval=20)
        self.model, self.optimizer, self.data, self.state = start(module, DEVICE, file, config)
        self.optimizer.register_step_post_hook(self.after_step)
        self.module, self.config, self.evaluate = module, config, module.evaluate
        self.seen = 0  # steps that began under watch
        monkeypatch.setattr(module, "evaluate", self.after_evaluation)

    def after_step(self, *_):
        self.seen += torch.cuda.get_sync_debug_mode() == 2
        done = self.state["step"] + 1
        torch.cuda.set_sync_debug_mode("default" if done % 20 == 0 else "error")

    def after_evaluation(self, *args):
        self.evaluate(*args)
        torch.cuda.set_sync_debug_mode("error")

    def run(self):
        args = self.model, self.optimizer, self.data, self.config, self.state, None
        try:
            self.module.train(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return self.seen


@each_script
def test_no_step_waits_for_the_device(stem, small, monkeypatch):
    assert Watched(load(stem), small, monkeypatch).run() == 39


def test_a_step_that_waits_is_found(small, monkeypatch):
    module = load("train-2")
    rate, one = module.learning_rate, torch.ones((), device=DEVICE)
    monkeypatch.setattr(module, "learning_rate", lambda *args: rate(*args) * one.item())
    with pytest.raises(RuntimeError, match="synchroniz"):
        Watched(module, small, monkeypatch).run()


def test_the_gpu_is_the_default():
    options, *_ = load("train-2").parse([])
    assert options.device == DEVICE
