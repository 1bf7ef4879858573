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
FILES = sorted([*(ROOT / "results").glob("*.py"), *(ROOT / "results" / "lib").glob("*.py")])


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


EXPECTED = {
    Failure("it is\nso"): 2,
    Failure("it is so", 1): 1,
    PermissionError("it is so"): 1,
    KeyboardInterrupt(): 130,
}


@pytest.mark.parametrize("error, status", EXPECTED.items(), ids=repr)
def test_expected_errors_are_one_line(error, status, capsys):
    def fail():
        raise error

    with pytest.raises(SystemExit) as stop:
        command.run(fail)
    assert stop.value.code == status
    assert one_error(capsys.readouterr().err) in ("error: it is so", "error: stopped")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 / 0)


# --- How they are built ---
def imported(path):
    """The files of results/ that a file imports anywhere in it."""
    found = re.findall(r"^\s*(?:import|from) ([\w.]+)(?: import (\w+))?", path.read_text(), re.M)
    names = {name for module, part in found for name in (module, f"{module}.{part}")}
    return {ROOT / "results" / (name.replace(".", "/") + ".py") for name in names} & {*FILES}


def test_no_imports_go_in_a_circle_and_no_command_imports_another():
    left = {path: imported(path) for path in FILES}
    assert any(left.values())
    for path, needs in left.items():
        commands = {need for need in needs if need.parent.name == "results"}
        assert not commands, f"{path.name} imports a command"
    while left:
        ready = [path for path, needs in left.items() if not needs & left.keys()]
        assert ready, f"a circle: {sorted(path.name for path in left)}"
        for path in ready:
            del left[path]


def test_the_tools_read_the_columns_that_the_scripts_write():
    assert load(ROOT / "train-2.py").COLUMNS == RESULTS
