"""Write patches of ideas: one of a script of yours, or all anew after a script has changed.

All patches, as far as they merge:  python results/renew.py
The patch of a script in the root:  python results/renew.py train-2-mine

Without names every patch in results/ideas is applied to the scripts as they now are and made again
from the result. One that does not apply is merged: it is applied to the scripts of an earlier
commit, and what has changed since goes into the result. Those that conflict are listed, and stay as
they are, like those whose script lies in the root. With a name, ideas/mine.patch is written from
train-2-mine.py and the script that it builds on. Its text is that of the patch that it replaces, or
the script's docstring: say in it which group the idea is of and what to expect. Your git settings
have no part in it.
"""

import inspect
import re
import shutil
import tempfile
from functools import cached_property
from pathlib import Path

from lib.command import ROOT, Failure, Parser, run, write_whole
from lib.names import script_of
from lib.patches import OWN_STEPS, Made, copied_by, git, head_of, note, scripts
from lib.scripts import load

COMMITS, SCRIPTS = 20, "train-2*.py"  # how many that changed a script are looked at


def patch_of(folder, base, script, head):
    """The patch that makes a script of its base, both in the folder."""
    done = git(folder, "diff", "--no-index", "--", base, script)
    if done.returncode != 1:  # 1: they differ
        raise Failure(f"{script} is the same as {base}; git: {done.stderr}", 1)
    copy = f"copy from {base}\ncopy to {script}\n"
    diff = re.sub(r"^index .*\n", copy, done.stdout, count=1, flags=re.M)
    return f"{head.rstrip()}\n\n{diff}".lstrip()


class History:
    """The scripts of earlier commits, with those that today's patches make of them."""

    def __init__(self, root, folder):
        """`folder` is an empty one to work in."""
        self.root, self.folder, self.made = root, folder, {}

    def git(self, *words):
        return git(self.root.resolve(), *words)

    @cached_property
    def commits(self):
        """The latest commits that changed a script, the newest first; none without a repository."""
        done = self.git("log", "--format=%H", f"-{COMMITS}", "--", SCRIPTS)
        if done.returncode:
            reason = done.stderr.partition("\n")[0]
            note(f"no git history, so what does not apply cannot be merged: {reason}")
        return done.stdout.split()

    def scripts_of(self, commit):
        """A folder with the scripts of a commit and those of the patches that apply to them."""
        if commit not in self.made:
            self.made[commit] = folder = self.folder / commit
            folder.mkdir()
            archive = self.folder / f"{commit}.zip"
            self.git("archive", "--output", str(archive), commit, "--", SCRIPTS)
            if archive.exists():  # not so where the commit has no script
                shutil.unpack_archive(archive, folder)
            make_all(Made(self.root, folder))
        return self.made[commit]


def merge(folder, base, script, history):
    """Make the script of its base in the folder, as it was once made; whether this merges."""
    for earlier in map(history.scripts_of, history.commits):
        if (earlier / base).exists() and (earlier / script).exists():
            names = str(folder / base), str(earlier / base), str(earlier / script)
            done = git(folder, "merge-file", "-p", *names)
            if done.returncode == 0:
                (folder / script).write_bytes(done.stdout.encode())
            return done.returncode == 0
    return False


def make_all(made):
    """Make the scripts of all patches; {patch: what stands against it}."""
    problems = {}
    for script in made.names():
        try:
            made.path(script)
        except Failure as error:
            problems[made.patch(script)] = str(error)
    return problems


class Renewed(Made):
    """Scripts that patches make, and `new`, {patch: its text} of those that apply or merge."""

    def __init__(self, root, folder, history):
        super().__init__(root, folder)
        self.history, self.new = history, {}

    def apply(self, patch):
        base, script = copied_by(patch), f"train-2-{patch.stem}.py"
        if super().apply(patch) and not merge(self.folder, base, script, self.history):
            return "it conflicts" if self.history.commits else "it does not apply"
        self.new[patch] = patch_of(self.folder, base, script, head_of(patch))


def patch_of_script(root, folder, name):
    """{patch: its text} of a script in the root."""
    path = root / f"{name.removesuffix('.py')}.py"
    module = load(path)
    base = f"{script_of(module.BUILDS_ON or '')}.py"
    if not (folder / base).exists() or base == path.name or not path.stem.startswith("train-2-"):
        raise Failure(f"{path.name} must be a train-2-NAME.py that builds on a script in the root")
    label, _, text = inspect.cleandoc(module.__doc__ or "").partition("\n")
    patch = root / "results" / "ideas" / f"{path.stem.removeprefix('train-2-')}.patch"
    head = head_of(patch) if patch.exists() else f"{label}\nGroup: {OWN_STEPS}\n{text}"
    return {patch: patch_of(folder, base, path.name, head)}


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument("name", nargs="?", metavar="SCRIPT", help="in the root: train-2-mine")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="renew-") as name:
        folder, past = Path(name).resolve() / "scripts", Path(name).resolve() / "past"
        folder.mkdir()
        past.mkdir()
        for script in scripts(root):
            shutil.copy(script, folder)
        if options.name is not None:
            new, conflicts = patch_of_script(root, folder, options.name), {}
        else:
            made = Renewed(root, folder, History(root, past))
            conflicts, new = make_all(made), made.new
    changed = 0
    for patch, text in new.items():
        if not patch.exists() or text != patch.read_text(encoding="utf-8"):
            write_whole(patch, text.encode())
            changed += 1
    print(f"patches written: {changed}")
    for patch, problem in conflicts.items():
        print(f"{patch.name} stays as it is: {problem}")
    if conflicts:
        one = f"git apply --reject results/ideas/{next(iter(conflicts)).name}"
        raise Failure(f"{len(conflicts)} patches do not merge: fix each by hand, as after {one}", 1)


if __name__ == "__main__":
    run(main)
