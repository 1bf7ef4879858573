"""Scripts in a folder, and the patches that make ideas of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from lib.command import Failure

OWN_STEPS = "own steps"  # the group of an idea that names none


def note(text):
    print(f"note: {text}", file=sys.stderr)


def scripts(root):
    """The training scripts of a folder. `train-2 copy.py` is none: a name has no blanks."""
    found = []
    for path in sorted(root.glob("train-2*.py")):
        if re.fullmatch(r"train-2(-[\w.-]+)?", path.stem):
            found.append(path)
        else:
            note(f"{path.name} is left out: a script is called train-2-NAME.py, without blanks")
    return found


def patches(root):
    """The patches by the name of the script that each makes."""
    found = sorted((root / "results" / "ideas").glob("*.patch"))
    return {f"train-2-{patch.stem}.py": patch for patch in found}


def head_of(patch):
    """What stands in a patch before its diff: what the idea is."""
    return re.split("^diff --git ", patch.read_text("utf-8", "replace"), maxsplit=1, flags=re.M)[0]


def group_of(patch):
    named = re.search(r"^Group: *(\S.*)$", head_of(patch), flags=re.M)
    return named[1].strip() if named else OWN_STEPS


def copied_by(patch):
    """The script that a patch copies; None where it is not one copy, to the script of its name."""
    text = patch.read_text("utf-8", "replace")
    files = re.findall(r"^(?:diff --git|copy from|copy to) .*$", text, flags=re.M)
    one = len(files) == 3 and files[2] == f"copy to train-2-{patch.stem}.py"
    return files[1].removeprefix("copy from ") if one else None


def git(folder, *words):
    """Run git in a folder: whatever repository that or the caller is in, whoever's settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    environment["GIT_CONFIG_GLOBAL"] = str(Path(__file__).with_name("gitconfig"))
    options = {"cwd": folder, "env": environment, "capture_output": True, "encoding": "utf-8"}
    try:
        return subprocess.run(["git", *words], **options)
    except FileNotFoundError as error:
        raise Failure("there is no git, which applies the ideas' patches: install it") from error


def apply_in_order(root, folder, apply):
    """Call apply(script, patch) for every patch, after those that make what it copies.

    It returns None, or what stands against the patch. Returns {patch: what stands against it}.
    """
    left = {x: patch for x, patch in patches(root).items() if not (root / x).exists()}
    problems = {}
    while ready := [script for script in left if (folder / str(copied_by(left[script]))).exists()]:
        for script in ready:
            patch = left.pop(script)
            if problem := apply(script, patch):
                problems[patch] = problem
    for patch in left.values():
        base, one = copied_by(patch), f"it must be one copy, to train-2-{patch.stem}.py"
        problems[patch] = f"there is no {base}, which it copies" if base else one
    return problems


@contextmanager
def applied(root):
    """A folder, for a while, with the scripts of the root and those that the patches make.

    A script in the root wins over its patch. A patch that cannot be applied is reported and left
    out: the others can be worked with.
    """
    with tempfile.TemporaryDirectory(prefix="ideas-") as name:
        folder = Path(name).resolve()
        for script in scripts(root):
            shutil.copy(script, folder)

        def apply(script, patch):
            done = git(folder, "apply", "--whitespace=nowarn", str(patch.resolve()))
            return " ".join(done.stderr.split()) if done.returncode else None

        for patch, problem in apply_in_order(root, folder, apply).items():
            note(f"{patch.name} is left out: {problem}; see results/renew.py --help")
        yield folder
