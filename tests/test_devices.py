"""A missing `.to(device)` fails without a GPU: on a device of the tests' own, simulated here.

Its tensors call themselves "meta" and keep their numbers in a tensor of the CPU, but no operation
takes a tensor of either kind together with one of the other. It has random numbers of its own, and
notes whenever the CPU has to wait for it.
"""

import types
from pathlib import Path

import pytest
import torch
import torch.optim.optimizer as optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"train-2-baseline": [], "train-2": ["--dropout", "0.2", "--n-layer", "2"]}
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)


class Remote(torch.Tensor):
    """A tensor on the simulated device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        layout |= {"dtype": here.dtype, "device": "meta"}
        return torch.Tensor._make_wrapper_subclass(cls, here.size(), **layout)

    def __init__(self, here):
        self.here = here

    def __reduce_ex__(self, protocol):  # torch.save() writes the numbers
        return self.here.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, *_):
        raise AssertionError(f"{func} outside of the simulation")


class Simulation(TorchDispatchMode):
    """Computes what belongs to the simulated device; `waits` counts the transfers."""

    def __init__(self):
        super().__init__()
        self.waits, self.rng = 0, torch.get_rng_state()

    def get_rng_state(self):
        return self.rng.clone()

    def set_rng_state(self, state):
        assert type(state) is torch.Tensor, "the state is handed over on the CPU"
        self.rng = state.clone()

    def compute(self, func, args, kwargs):
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        before = torch.get_rng_state()
        torch.set_rng_state(self.rng)
        out = func(*args, **kwargs)
        self.rng = torch.get_rng_state()
        torch.set_rng_state(before)
        return out

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        remote = [x for x in leaves if isinstance(x, Remote)]
        local = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, Remote)]
        is_remote = bool(remote)  # where the result will be
        if kwargs.get("device") is not None:
            is_remote = torch.device(kwargs["device"]).type == "meta"
            kwargs["device"] = "cpu"
        elif func is ATEN.copy_.default:
            is_remote = isinstance(args[0], Remote)
        if func in COPIES:
            self.waits += bool(remote and local) or is_remote != bool(remote)
        elif func is ATEN._local_scalar_dense.default:
            self.waits += is_remote
        elif remote:  # CUDA, too, takes a number of the CPU beside its tensors
            mixed = any(x.dim() for x in local)
            mixed |= any(isinstance(x, torch.Generator) for x in leaves)
            if mixed:
                raise RuntimeError(f"{func} on tensors, or a generator, of two devices")
        unwrap = lambda x: x.here if isinstance(x, Remote) else x  # noqa: E731
        known = {id(x.here): x for x in remote}  # in-place operations return what they are given
        args, kwargs = tree_map(unwrap, args), tree_map(unwrap, kwargs)
        out = self.compute(func, args, kwargs) if is_remote else func(*args, **kwargs)
        if not is_remote:
            return out
        wrap = lambda x: known[id(x)] if id(x) in known else Remote(x)  # noqa: E731
        return tree_map(lambda x: wrap(x) if isinstance(x, torch.Tensor) else x, out)


@pytest.fixture
def device(monkeypatch):
    """The simulated device, which PyTorch takes for one where a fused AdamW can run."""
    simulation, seed = Simulation(), torch.manual_seed

    def manual_seed(number):
        seed(number)
        simulation.rng = torch.Generator().manual_seed(number + 1).get_state()

    fused = ["cpu", "meta"]
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: fused)
    monkeypatch.setattr(torch, "meta", simulation, raising=False)
    monkeypatch.setattr(torch, "manual_seed", manual_seed)
    with simulation:
        yield simulation


def load(stem):
    """The script as a module that runs on the simulated device."""
    module = types.ModuleType(stem)
    module.__file__ = str(ROOT / f"{stem}.py")
    exec(compile(Path(module.__file__).read_text("utf-8"), stem, "exec"), module.__dict__)
    parse = module.parse

    def on_simulation(argv):
        options, *rest = parse(["--device", "cpu", *map(str, argv)])
        options.device = "meta"
        return options, *rest

    module.parse = on_simulation
    return module


@pytest.fixture
def flags(tmp_path):
    """Of a small run; the list has names in both splits, so that all four losses are computed."""
    names = ["anna", "bob", "cleo", "dorothea", "bo", "eli", "fay", "gus", "hal", "ida", "jo"] * 4
    path = tmp_path / "names.txt"
    path.write_text("\n".join([*names, "kim", "lou", "max", "ned"]), "utf-8")
    flags = "--steps 6 --eval-interval 2 --batch-size 4 --grad-clip 1 --data".split()
    return [*flags, path]


def checkpoint(folder):
    (path,) = folder.glob("checkpoints/*.pt")
    saved = torch.load(path, weights_only=True)
    return {key: saved[key] for key in ("model", "optimizer", "rng", "curve", "step")}


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # it does copy, here
@pytest.mark.parametrize("stem", SCRIPTS)
def test_a_run_mixes_no_devices(stem, device, flags, tmp_path, monkeypatch):
    """main() from the data to ten names; stopped and resumed it ends like its twin."""
    module = load(stem)
    flags = [*flags, *SCRIPTS[stem], "--results-dir"]
    module.main([*flags, tmp_path / "twin"])
    assert (tmp_path / "twin" / "results.csv").read_text("utf-8").count("\n") == 2

    def stop(step, config):
        if step == 3:
            raise KeyboardInterrupt
        return rate(step, config)

    with monkeypatch.context() as patch:
        rate = module.learning_rate
        patch.setattr(module, "learning_rate", stop)
        with pytest.raises(KeyboardInterrupt):
            module.main([*flags, tmp_path / "stopped"])
    module.main([*flags, tmp_path / "stopped", "--resume"])
    twins = [checkpoint(tmp_path / name) for name in ("twin", "stopped")]
    torch.testing.assert_close(*twins, rtol=0, atol=0)


@pytest.mark.parametrize("stem", SCRIPTS)
def test_sampling_mixes_no_devices(stem, device, flags):
    module = load(stem)
    options, config, _ = module.parse([*flags, *SCRIPTS[stem]])
    data = module.load_data(options.data, config, options.device)
    model = module.Transformer(config, len(data.chars) + 2, data.max_len).to(options.device)
    generator = torch.Generator().manual_seed(0)
    names = module.generate(model, data, 5, generator, prompt="d", temperature=0.5, top_k=3)
    assert len(names) == 5 and all(name.startswith("d") for name in names)


@pytest.mark.parametrize("stem", SCRIPTS)
def test_no_step_waits_for_the_device(stem, device, flags, monkeypatch):
    """But the last before an evaluation."""
    module = load(stem)
    rate, waits = module.learning_rate, []

    def learning_rate(step, config):
        waits.append(device.waits)
        return rate(step, config)

    monkeypatch.setattr(module, "learning_rate", learning_rate)
    module.main([*flags, *SCRIPTS[stem], "--grad-clip", 0, "--eval-interval", 3, "--no-record"])
    assert waits[0] == waits[1] == waits[2] < waits[3] == waits[4] == waits[5] < device.waits


def test_the_simulation_refuses_to_mix_devices(device):
    """What CUDA refuses, and an index on the CPU, for which every step would wait."""
    there, here = torch.ones(2, 2, device="meta"), torch.ones(2, 2)
    assert isinstance(there, Remote) and (there + 1).sum().item() == 8
    assert torch.equal((there + torch.tensor(1.0)).cpu(), here + 1)
    index = torch.tensor([0])
    for mix in (
        lambda: there + here,
        lambda: there @ here,
        lambda: there[index],
        lambda: here.index_put_((index,), there[:1]),
        lambda: torch.cat([here, there]),
        lambda: torch.multinomial(there, 1, generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match="two devices"):
            mix()
