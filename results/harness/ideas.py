"""Ideas: patches in results/ideas, each of which makes a training script out of another one."""

import os
import re
import shutil
import subprocess
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
    return patch.read_text(encoding="utf-8").partition("\ndiff --git ")[0]


def group_of(patch):
    """The group that the patch puts its idea in."""
    named = re.search(r"^Group: *(\S.*)$", head_of(patch), flags=re.M)
    return named[1].strip() if named else "own steps"


def git(folder, *words):
    """Run git in a folder, whatever repository that or the caller may be in."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    try:
        return subprocess.run(
            ["git", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise Failure("there is no git, which applies the ideas' patches: install it") from error


@contextmanager
def applied(root):
    """A folder, for a while, with the scripts of the root and those that the patches make."""
    with tempfile.TemporaryDirectory(prefix="ideas-") as name:
        folder = Path(name).resolve()
        for script in root.glob("train-2*.py"):
            shutil.copy(script, folder)
        for script, patch in patches(root).items():
            if (folder / script).exists():
                continue  # a script in the root wins over its patch
            done = git(folder, "apply", "--whitespace=nowarn", str(patch.resolve()))
            if not (folder / script).exists():
                reason = done.stderr or f"it makes no {script}"
                raise Failure(f"cannot apply {patch}: {reason}: see python results/renew.py --help")
        yield folder
