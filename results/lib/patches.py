"""Scripts in a folder, and the patches that make ideas of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
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


class Made:
    """The scripts of a root and those that its patches make, each when it is first asked for.

    They are in a folder that lasts as long as this does, or in the one that is given, which has its
    own scripts. A script in the root wins over its patch.
    """

    def __init__(self, root, folder=None):
        self.root, self.patches, self.asked = folder or root, patches(root), set()
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ideas-")).resolve()
        if not folder:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def patch(self, script):
        return self.patches.get(f"{script}.py")

    def path(self, script):
        """The path of a script's copy in the folder, made of what its patch copies if need be."""
        path, own, patch = (
            self.folder / f"{script}.py",
            self.root / f"{script}.py",
            self.patch(script),
        )
        if script in self.asked and not path.exists():
            raise Failure(f"{path.name} cannot be made")  # it failed before, or it copies itself
        if script not in self.asked:
            self.asked.add(script)
            if own.is_file():
                if own != path:
                    shutil.copy(own, path)
            elif patch:
                self.make(patch)
        if not path.exists():
            raise Failure(f"there is no script {path.name}")
        return path

    def make(self, patch):
        """Apply the patch of an idea, after those that make what it copies."""
        base = copied_by(patch)
        if base is None:
            raise Failure(f"it must be one copy, to train-2-{patch.stem}.py")
        try:
            self.path(base.removesuffix(".py"))
        except Failure as error:
            raise Failure(f"it copies {base}, which is not there") from error
        if problem := self.apply(patch):
            raise Failure(problem)

    def apply(self, patch):
        """Apply a patch; what stands against it, or None."""
        done = git(self.folder, "apply", "--whitespace=nowarn", str(patch.resolve()))
        return " ".join(done.stderr.split()) if done.returncode else None

    def names(self):
        """All scripts: the root's and those of the patches, without .py."""
        own = [path.name for path in scripts(self.root)]
        return [name.removesuffix(".py") for name in sorted({*own, *self.patches})]


@contextmanager
def applied(root):
    """A folder, for a while, with the scripts of the root and those that the patches make.

    A patch that cannot be applied is reported and left out: the others can be worked with.
    """
    made = Made(root)
    for script in made.names():
        try:
            made.path(script)
        except Failure as error:
            note(f"{script} is left out: {error}")
    yield made.folder
