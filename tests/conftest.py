"""Fixtures. No test reaches the network, trains on more than a handful of names, or writes outside tmp_path."""
import os, random, signal, socket, types

os.environ.update(dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], "http://127.0.0.1:9"),
                  no_proxy="127.0.0.1,localhost")  # for the subprocesses as well
import pytest, torch

import common

torch.set_num_threads(1)


def pytest_generate_tests(metafunc):
    """A test with an argument `script` runs for every script, one with `step` for each of the eight."""
    if "script" in metafunc.fixturenames:
        metafunc.parametrize("script", common.SCRIPTS, ids=[path.stem for path in common.SCRIPTS])
    if "step" in metafunc.fixturenames:
        metafunc.parametrize("step", [common.ROOT / name for name in common.CHAIN], ids=list(common.CHAIN))


@pytest.fixture(autouse=True)
def put_back(monkeypatch):
    """What main() sets for its own process is put back, and nothing but this machine can be reached."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads, anomaly, rng = torch.get_num_threads(), torch.is_anomaly_enabled(), torch.get_rng_state()
    connect = socket.socket.connect

    def local_only(self, address):
        assert not isinstance(address, tuple) or address[0] in ("127.0.0.1", "localhost", "::1"), f"network: {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    torch.autograd.set_detect_anomaly(anomaly)
    torch.set_rng_state(rng)


@pytest.fixture
def scripts():
    """The paths of the eight steps."""
    paths = [common.ROOT / name for name in common.CHAIN]
    assert [path for path in paths if not path.exists()] == []
    return paths


@pytest.fixture
def load():
    return common.load


@pytest.fixture
def names(tmp_path):
    """A small data file: 60 names over nine letters, two to seven long, some of them twice."""
    rng = random.Random(7)
    path = tmp_path / "small.txt"
    path.write_text("".join("".join(rng.choices("abcdeimno", k=rng.randint(2, 7))) + "\n" for _ in range(50)) +
                    "anna\nbea\n" * 5, "utf-8")
    return path


@pytest.fixture
def ids_28():
    """A Data section's view of names over the 26 letters, for models that want no file: vocabulary 28."""
    chars = [chr(code) for code in range(ord("a"), ord("z") + 1)]

    def encode(items, length=None):
        length = length or max(map(len, items)) + 2
        rows = [[1, *(chars.index(char) + 2 for char in item), 1] for item in items]
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])

    return types.SimpleNamespace(chars=chars, encode=encode)


@pytest.fixture
def go(tmp_path, names, capsys):
    """Run a script's main() on the small data, results in tmp_path/results or the folder given; what it printed."""
    def run(script, *argv, results="results", data=names, small=True):
        module = script if isinstance(script, types.ModuleType) else common.load(script)
        results = tmp_path / results
        argv = [*(common.SMALL if small else []), *(["--data", data] if data else []), "--results-dir", results, *argv]
        capsys.readouterr()
        status = 0
        try:
            module.main([str(arg) for arg in argv])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return types.SimpleNamespace(status=status, out=out, err=err, results=results, table=results / "results.csv")

    return run
