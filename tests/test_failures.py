"""What a failure looks like: a line and a status for what can be expected, else a traceback."""

import os

import common
import pytest
import torch
from common import SMALL, load

DATA = {  # what is in the file, and what the message says of it
    "empty": (b"", "0 items"),
    "blank lines only": (b"\n \n\t\r\n\n", "0 items"),
    "Latin-1": ("zoë\nåsa\n".encode("latin-1"), "UTF-8"),
    "UTF-16": ("anna\nbea\n".encode("utf-16"), "UTF-8"),
    "cut within a character": ("anna\nzoë".encode()[:-1], "UTF-8"),
    "a lone surrogate": (b"anna\nb\xed\xa0\x80b\n", "UTF-8"),
    "one line too long": (b"anna\n" * 10 + b"x" * 100_000 + b"\n", "100000 characters"),
    "no line ends": (b"anna bea " * 20_000, "179999 characters"),
}


@pytest.mark.parametrize("blob, words", DATA.values(), ids=DATA)
def test_data_that_cannot_be_trained_on(blob, words, go, names):
    names.write_bytes(blob)
    done = go("train-2-baseline.py")
    assert done.status == 2 and words in common.one_error(done.err)
    assert done.out == "" and not done.results.exists()


def test_data_that_cannot_be_read(go, tmp_path, names):
    for path in (tmp_path / "nothing.txt", tmp_path, names / "below.txt"):
        done = go("train-2-baseline.py", data=path)
        message = common.one_error(done.err)
        assert done.status == 2 and str(path) in message and "UTF-8 text" in message


def test_a_file_name_that_is_not_utf_8_is_no_failure(go, tmp_path, names):
    """Linux has such names; Python holds them with surrogates, which no output takes."""
    path = os.fsencode(tmp_path) + b"/n\xff.txt"
    try:
        with open(path, "wb") as file:
            file.write(names.read_bytes())
    except OSError:
        pytest.skip("not on this file system")
    done = go("train-2-baseline.py", data=os.fsdecode(path))
    assert (done.status, done.err) == (0, "")
    assert len(common.read_table(done.table)) == 1
    again = go("train-2-baseline.py", "--resume", data=os.fsdecode(path))
    assert (again.status, again.err) == (0, "") and "anew" not in again.out
    assert len(common.read_table(done.table)) == 1


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_memory_that_runs_out(error, go, monkeypatch):
    """Where Python or CUDA says so by its class; the message says what to try."""
    module = load("train-2-baseline.py")

    def fail(*args, **options):
        raise error("tried to allocate 20 GiB\nof memory")

    monkeypatch.setattr(module, "masked_loss", fail)
    done = go(module)
    message = common.one_error(done.err)
    assert done.status == 1 and "memory" in message and "--batch-size" in message
    assert not done.table.exists()


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), KeyError("not finite")])
def test_a_bug_keeps_its_traceback(error, go, monkeypatch):
    """Whatever words are in its message."""
    module = load("train-2-baseline.py")

    def fail(*args, **options):
        raise error

    for function in ("load_data", "masked_loss", "evaluate", "append_row", "generate"):
        with monkeypatch.context() as patch:
            patch.setattr(module, function, fail)
            with pytest.raises(type(error)) as caught:
                go(module, results=function)
            assert caught.value is error


def test_main_raises_and_leaves_the_process_alone(names, tmp_path, capsys):
    """Tools and tests call main(): a failure is an exception with a status, not an exit."""
    module = load("train-2.py")
    flags = ["--data", str(names), "--results-dir", str(tmp_path / "results")]
    with pytest.raises(module.Failure) as caught:
        module.main([*flags, "--n-head", "5"])
    assert caught.value.status == 2 and "--n-head 5" in str(caught.value)
    with pytest.raises(module.Failure) as caught:
        module.main([*flags, *SMALL, "--learning-rate", "1e9"])
    assert caught.value.status == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status, flag, value", [(2, "--n-head", 5), (1, "--learning-rate", 1e9)])
def test_a_failure_in_a_process_of_its_own(status, flag, value, tmp_path, names):
    """The one line on stderr and the status, which a shell sees."""
    flags = [*SMALL, "--data", names, "--results-dir", tmp_path / "results"]
    process = common.start("train-2.py", *flags, flag, value)
    _, err = process.communicate()
    assert process.returncode == status and flag in common.one_error(err)
    assert not (tmp_path / "results" / "results.csv").exists()


def test_a_bug_in_a_process_of_its_own(tmp_path, names):
    """Its traceback reaches the terminal, and the status is Python's own."""
    source = (common.ROOT / "train-2-baseline.py").read_text("utf-8")
    broken = tmp_path / "train-2-broken.py"
    broken.write_text(source.replace("return weights @ v", "return weights @ v.mT"), "utf-8")
    flags = [*SMALL, "--data", names, "--results-dir", tmp_path / "results"]
    process = common.start(broken, *flags)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.startswith("Traceback") and "weights @ v.mT" in err and "RuntimeError" in err
    assert not (tmp_path / "results" / "results.csv").exists()
