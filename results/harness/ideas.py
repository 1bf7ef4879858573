"""Ideas: patches in results/ideas, each of which makes a training script out of another one."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from harness.command import Failure


def patches(root):
    """The patches by the name of the script that each makes."""
    found = sorted((root / "results" / "ideas").glob("*.patch"))
    return {f"train-2-{patch.stem}.py": patch for patch in found}


def head_of(patch):
    """What stands in a patch before its diff: what the idea is."""
    return re.split("^diff --git ", patch.read_text(encoding="utf-8"), maxsplit=1, flags=re.M)[0]


def group_of(patch):
    """The group that the patch puts its idea in."""
    named = re.search(r"^Group: *(\S.*)$", head_of(patch), flags=re.M)
    return named[1].strip() if named else "own steps"


def git(folder, *words):
    """Run git in a folder: whatever repository that or the caller is in, whoever's settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    environment["GIT_CONFIG_GLOBAL"] = "/dev/null"  # to git, on Windows too
    options = {"cwd": folder, "env": environment, "capture_output": True, "encoding": "utf-8"}
    try:
        return subprocess.run(["git", *words], **options)
    except FileNotFoundError as error:
        raise Failure("there is no git, which applies the ideas' patches: install it") from error


def apply(patch, script, folder):
    """Make the script that the patch copies and changes. Returns what stands against that."""
    copies = re.findall(r"^(?:diff --git|copy to) .*$", patch.read_text(encoding="utf-8"), re.M)
    if len(copies) != 2 or copies[1] != f"copy to {script}":
        return f"it must be one copy, to {script}"
    done = git(folder, "apply", "--whitespace=nowarn", str(patch.resolve()))
    return None if (folder / script).exists() else " ".join(done.stderr.split())


@contextmanager
def applied(root):
    """A folder, for a while, with the scripts of the root and those that the patches make.

    A patch that cannot be applied is reported and left out: the others can be worked with.
    """
    with tempfile.TemporaryDirectory(prefix="ideas-") as name:
        folder = Path(name).resolve()
        for script in root.glob("train-2*.py"):
            shutil.copy(script, folder)
        for script, patch in patches(root).items():
            if (folder / script).exists():
                continue  # a script in the root wins over its patch
            problem = apply(patch, script, folder)
            if problem:
                text = f"note: {patch} is left out: {problem}; see results/renew.py --help"
                print(text, file=sys.stderr)
        yield folder
