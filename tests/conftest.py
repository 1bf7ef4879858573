"""Fixtures. No test reaches the network, writes outside tmp_path, or trains for long."""

import os
import random
import runpy
import sys
import types

SMALL = "--steps 4 --eval-interval 2 --batch-size 8".split()
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
os.environ |= dict.fromkeys(PROXIES, "http://127.0.0.1:9")  # nobody answers there

import pytest  # noqa: E402
import torch  # noqa: E402

pytest.register_assert_rewrite("common")

import common  # noqa: E402

sys.path.insert(0, str(common.ROOT / "results"))  # the commands

torch.set_num_threads(1)


def pytest_generate_tests(metafunc):
    """A test with an argument `step` runs for each of the eight scripts."""
    if "step" in metafunc.fixturenames:
        steps = [common.ROOT / name for name in common.CHAIN]
        metafunc.parametrize("step", steps, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def put_back():
    """What a run sets in its process is put back."""
    threads, anomaly = torch.get_num_threads(), torch.is_anomaly_enabled()
    rng, dtype = torch.get_rng_state(), torch.get_default_dtype()
    yield
    torch.set_num_threads(threads)
    torch.autograd.set_detect_anomaly(anomaly)
    torch.set_rng_state(rng)
    torch.set_default_dtype(dtype)


@pytest.fixture
def names(tmp_path):
    """A small data file: 60 names over nine letters, two to seven long, some of them twice."""
    rng = random.Random(7)
    items = ["".join(rng.choices("abcdeimno", k=rng.randint(2, 7))) for _ in range(50)]
    path = tmp_path / "small.txt"
    path.write_text("\n".join(items + ["anna", "bea"] * 5) + "\n", "utf-8")
    return path


@pytest.fixture
def go(tmp_path, names, capsys, monkeypatch):
    """Run a script in this process on the small data: status, output, and where its results lie.

    `small` gives it few steps, which flags override. It calls main(); `shell` runs the file.
    """

    def run(script, *argv, results="results", data=names, small=True, shell=False):
        module = script if isinstance(script, types.ModuleType) else common.load(script)
        results = tmp_path / results
        flags = ["--results-dir", results, "--device", "cpu", *(SMALL if small else [])]
        flags += ["--data", data] if data else []
        argv = list(map(str, [*flags, *argv]))
        capsys.readouterr()
        status, message = 0, ""
        try:
            if shell:
                monkeypatch.setattr(sys, "argv", [module.__file__, *argv])
                runpy.run_path(module.__file__, run_name="__main__")
            else:
                module.main(argv)
        except SystemExit as stop:
            message = stop.code if isinstance(stop.code, str) else ""
            status = 1 if message else stop.code or 0
        out, err = capsys.readouterr()
        places = {"results": results, "table": results / "results.csv"}
        return types.SimpleNamespace(status=status, out=out, err=err + message, **places)

    return run
