"""All commands of results/: how they are called, how they fail, and how they are built."""

import importlib
import re
import sys

import pytest
from common import ROOT, one_error

sys.path.insert(0, str(ROOT / "results"))

from lib import command
from lib.command import Failure
from lib.steps import load
from lib.tables import RESULTS

COMMANDS = sorted(path.stem for path in (ROOT / "results").glob("*.py"))


def run(name, *argv, monkeypatch):
    """A command as from the command line: its exit status."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv])
    with pytest.raises(SystemExit) as stop:
        command.run(importlib.import_module(name).main)
    return stop.value.code


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_how_to_call_it(name, capsys, monkeypatch):
    assert run(name, "--help", monkeypatch=monkeypatch) in (0, None)
    out, err = capsys.readouterr()
    assert err == ""
    assert f"python results/{name}.py" in out, "an example as one would type it"
    assert importlib.import_module(name).__doc__.strip() in out


@pytest.mark.parametrize(
    "name, argv",
    [
        *((name, ["--no-such-flag", "x"]) for name in COMMANDS),
        ("report", ["--che"]),  # no abbreviations
        ("report", ["--check", "--all"]),
        ("reproduce", ["--seeds", "many"]),
        ("sample", ["train-2-seed0", "--temperature", "hot"]),
        ("stream", ["train-2.py", "--text", "nowhere.txt", "--no-record"]),
        ("dissect", ["--seeds", "0"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_wrong_use_is_one_line_and_status_2(name, argv, capsys, monkeypatch):
    assert run(name, *argv, monkeypatch=monkeypatch) == 2
    out, err = capsys.readouterr()
    one_error(err)
    assert out == ""


@pytest.mark.parametrize(
    "error, status, told",
    [
        (Failure("it is\nso"), 2, "error: it is so"),
        (Failure("it is so", 1), 1, "error: it is so"),
        (PermissionError("it is so"), 1, "error: it is so"),
        (KeyboardInterrupt(), 130, "error: stopped"),
    ],
)
def test_expected_errors_are_one_line(error, status, told, capsys):
    def fail():
        raise error

    with pytest.raises(SystemExit) as stop:
        command.run(fail)
    assert stop.value.code == status
    assert one_error(capsys.readouterr().err) == told


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 / 0)


# --- How they are built ---
def test_no_command_imports_another():
    for path in (ROOT / "results").rglob("*.py"):
        found = re.findall(r"^\s*(?:import|from) (\w+)", path.read_text("utf-8"), re.M)
        assert not {*found} & {*COMMANDS}, path.name


def test_the_tools_read_the_columns_that_the_scripts_write():
    assert load(ROOT / "train-2.py").COLUMNS == RESULTS
