"""A missing `.to(device)` fails without a GPU: on a device of the tests' own, simulated here.

Its tensors call themselves "meta" and keep their numbers in a tensor of the CPU, but no operation
takes a tensor of either kind together with one of the other. It has random numbers of its own, and
notes whenever the CPU has to wait for it.
"""

import pytest
import torch
import torch.optim.optimizer as optimizer
from common import checkpoint, load, same
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

SCRIPTS = {"train-2-baseline.py": [], "train-2.py": ["--dropout=0.2", "--n-layer=1"]}
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
        self.waits, self.synchronized, self.rng = 0, 0, torch.get_rng_state()

    def synchronize(self):
        self.synchronized += 1

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
        elif func is ATEN.index.Tensor and isinstance(args[0], Remote):
            self.waits += bool(local)  # an index on the CPU is copied
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


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # it does copy, here
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_mixes_no_devices_and_no_step_waits(script, device, names, tmp_path, monkeypatch):
    """From the data to the names; stopped and resumed it ends like its twin."""
    module, waits = load(script), {}
    parse, rate = module.parse, module.learning_rate
    flags = "--steps=6 --eval-interval=3 --batch-size=4 --device=cpu".split()

    def on_simulation(argv):
        options, *rest = parse([*flags, *SCRIPTS[script], "--data", str(names), *argv])
        options.device = "meta"
        return options, *rest

    def learning_rate(step, config):
        if step == stop:
            raise KeyboardInterrupt
        waits[step] = device.waits
        return rate(step, config)

    monkeypatch.setattr(module, "parse", on_simulation)
    monkeypatch.setattr(module, "learning_rate", learning_rate)
    twin, stopped = (["--results-dir", str(tmp_path / name)] for name in ("twin", "stopped"))
    stop = None
    module.main(twin)
    counts = list(waits.values())  # but the last step before an evaluation waits
    assert counts[0] == counts[1] == counts[2] < counts[3] == counts[4] == counts[5] < device.waits
    assert device.synchronized == 2  # by each evaluation, before it reads the clock
    stop = 4
    with pytest.raises(KeyboardInterrupt):
        module.main([*stopped, "--grad-clip=0"])
    stop = None
    module.main([*stopped, "--resume"])
    a, b = (checkpoint(tmp_path / name) for name in ("twin", "stopped"))
    assert all(same(a[key], b[key]) for key in ("model", "optimizer", "rng", "curve", "step"))

    module.main([*stopped, "--no-record", "--grad-clip=1"])
    options, config, _ = module.parse([])
    data = module.load_data(options.data, config, "meta")
    model = module.make_model(config, data, "meta")
    generator = torch.Generator().manual_seed(0)
    drawn = module.generate(model, data, 5, generator, prompt="d", temperature=0.5, top_k=3)
    assert len(drawn) == 5 and all(name.startswith("d") for name in drawn)
