"""All commands of results/: how they are called, and how they fail."""

import functools
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from common import ROOT, one_error
from lib import command
from lib.command import Failure
from lib.scripts import load
from lib.tables import RESULTS, Condition

COMMANDS = sorted(path.stem for path in (ROOT / "results").glob("*.py"))


def run(name, *argv, monkeypatch):
    """A command as from the command line: its exit status."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv])
    with pytest.raises(SystemExit) as stop:
        command.run(importlib.import_module(name).main)
    return stop.value.code


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_an_unknown_flag(name, capsys, monkeypatch):
    """--help shows how to call the command; an unknown flag is reported in one line."""
    assert run(name, "--help", monkeypatch=monkeypatch) in (0, None)
    out, err = capsys.readouterr()
    assert err == ""
    assert f"python results/{name}.py" in out, "an example as one would type it"
    assert importlib.import_module(name).__doc__.strip() in out
    assert run(name, "--no-such-flag", "x", monkeypatch=monkeypatch) == 2
    out, err = capsys.readouterr()
    assert one_error(err) and out == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_without_the_packages_a_command_says_what_to_install(name):
    words = [sys.executable, "-S", ROOT / "results" / f"{name}.py"]  # -S: no site-packages
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install -r requirements.txt" in one_error(done.stderr)


@pytest.mark.parametrize("words", [["reproduce", "train-2"], ["compare", "train-2", "kneser-ney"]])
def test_help_among_the_flags_for_the_scripts_is_one_line(words, capsys, monkeypatch):
    assert run(*words, "--", "--help", monkeypatch=monkeypatch) == 2
    out, err = capsys.readouterr()
    assert "train-2.py --help" in one_error(err) and out == ""


def test_flags_cannot_be_abbreviated(capsys, monkeypatch):
    assert run("report", "--che", monkeypatch=monkeypatch) == 2
    one_error(capsys.readouterr().err)


def test_every_path_expands_the_home_folder_and_is_not_empty(capsys, monkeypatch, tmp_path):
    """Those of the commands, by their --help, and that of the flags for the scripts."""
    asked = [("reproduce", "--", "--data=")]
    for name in COMMANDS:
        run(name, "--help", monkeypatch=monkeypatch)
        flags = re.findall(r"^  (--[\w-]+) (?:FILE|DIR)\b", capsys.readouterr().out, re.M)
        asked += [(name, f"{flag}=") for flag in flags]
    assert len(asked) == 9
    for words in asked:
        assert run(*words, monkeypatch=monkeypatch) == 2
        assert "an empty path" in one_error(capsys.readouterr().err)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "towns.txt").write_text("ulm\n")
    assert Condition("--data=~/towns.txt").data == Path.home() / "towns.txt"


@pytest.mark.parametrize(
    "error, status, message",
    [
        (Failure("it is\nso"), 2, "error: it is so"),
        (Failure("it is so", 1), 1, "error: it is so"),
        (PermissionError("it is so"), 1, "error: it is so"),
        (KeyboardInterrupt(), 130, "error: stopped"),
    ],
)
def test_expected_errors_are_one_line(error, status, message, capsys):
    def fail():
        raise error

    with pytest.raises(SystemExit) as stop:
        command.run(fail)
    assert stop.value.code == status
    assert one_error(capsys.readouterr().err) == message


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a process cannot send itself Ctrl-C")
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_while_a_command_imports_its_libraries_shows_no_traceback(name, tmp_path):
    """Which takes a second or two; here it comes from a library."""
    for library in "numpy", "torch":
        stop = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
        (tmp_path / f"{library}.py").write_text(stop)
    words = [sys.executable, ROOT / "results" / f"{name}.py", "--help"]
    options = {"env": os.environ | {"PYTHONPATH": tmp_path}, "capture_output": True}
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job may ignore it
    done = subprocess.run(words, preexec_fn=heard, **options)
    assert done.stderr == b"" and done.returncode in (0, -signal.SIGINT)


def test_a_signal_that_is_ignored_stops_no_command():
    """As that of a terminal that closes, after nohup."""
    before = {x: signal.signal(x, signal.SIG_IGN) for x in command.STOPS}
    try:
        assert command.on_stop(command.interrupt) == {}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 / 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_imports_another(name):
    """What they share is in lib."""
    text = (ROOT / "results" / f"{name}.py").read_text("utf-8")
    assert not {*re.findall(r"^\s*(?:from|import) (\w+)", text, re.M)} & {*COMMANDS}


def test_the_tools_read_the_columns_that_the_scripts_write():
    assert load(ROOT / "train-2.py").COLUMNS == RESULTS
