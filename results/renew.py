"""Write patches of ideas: one of a script of yours, or all anew after a script has changed.

All patches, as far as they merge:  python results/renew.py
The patch of a script in the root:  python results/renew.py train-2-mine

Without names every patch in results/ideas is applied to the scripts as they now are, merging where
it has to (git apply --3way), and made again from the result; those that do not merge are listed,
and stay as they are, like those whose script lies in the root. With a name, ideas/mine.patch is
written from train-2-mine.py and the script that it builds on. Its text is that of the patch that it
replaces, or the script's docstring: say in it which group the idea is of and what to expect. Your
git settings have no part in it.
"""

import shutil
import tempfile
from pathlib import Path

from lib.command import ROOT, Failure, Parser, run, write_whole
from lib.steps import apply_in_order, copied_by, docstring, git, head_of, load, scripts

WHO = "-c", "user.name=renew", "-c", "user.email=renew@localhost"


def must(done):
    """The output of a git command, which has to succeed."""
    if done.returncode:
        raise Failure(f"git: {done.stderr or done.stdout}", 1)
    return done.stdout


def commit(folder):
    must(git(folder, "add", "--all"))
    must(git(folder, *WHO, "commit", "--quiet", "--allow-empty", "-m", "now"))


def patch_of(folder, base, script, head):
    """The patch that makes a script of its base, which is committed in the folder."""
    must(git(folder, "add", script))
    words = "diff", "--cached", "-C1%", "--find-copies-harder", "--full-index", "HEAD", "--"
    return f"{head.rstrip()}\n\n{must(git(folder, *words, base, script))}".lstrip()


def renew_all(root, folder):
    """{patch: its text} of those that merge, and a list of those that do not."""
    new = {}

    def renewed(script, patch):
        if git(folder, "apply", "--3way", str(patch.resolve())).returncode:
            must(git(folder, "reset", "--quiet", "--hard"))
            return "it conflicts"
        new[patch] = patch_of(folder, copied_by(patch), script, head_of(patch))
        commit(folder)  # another idea may copy it

    return new, apply_in_order(root, folder, renewed)


def patch_of_script(root, folder, name):
    """{patch: its text} of a script in the root."""
    path = root / f"{name.removesuffix('.py')}.py"
    base = f"{(load(path).BUILDS_ON or '').partition('@')[0]}.py"
    if not (folder / base).exists() or base == path.name or not path.stem.startswith("train-2-"):
        raise Failure(f"{path.name} must be a train-2-NAME.py that builds on a script in the root")
    label, _, text = docstring(path.read_text(encoding="utf-8")).partition("\n")
    patch = root / "results" / "ideas" / f"{path.stem.removeprefix('train-2-')}.patch"
    head = head_of(patch) if patch.exists() else f"{label}\nGroup: own steps\n{text}"
    must(git(folder, "rm", "--quiet", "--cached", path.name))
    must(git(folder, *WHO, "commit", "--quiet", "-m", "without it"))
    return {patch: patch_of(folder, base, path.name, head)}


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument("name", nargs="?", metavar="SCRIPT", help="in the root: train-2-mine")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="renew-") as name:
        folder = Path(name).resolve() / "clone"
        source = ["clone", "--quiet", "--shared", str(root.resolve())]
        if git(folder.parent, *source, str(folder)).returncode:  # not a repository: no merging
            must(git(folder.parent, "init", "--quiet", str(folder)))
        for script in scripts(root):
            shutil.copy(script, folder)
        commit(folder)
        if options.name is not None:
            new, conflicts = patch_of_script(root, folder, options.name), {}
        else:
            new, conflicts = renew_all(root, folder)
    changed = 0
    for patch, text in new.items():
        if not patch.exists() or text != patch.read_text(encoding="utf-8"):
            write_whole(patch, text.encode())
            changed += 1
    print(f"patches written: {changed}")
    for patch, problem in conflicts.items():
        print(f"{patch.name} stays as it is: {problem}")
    if conflicts:
        one = f"git apply --3way results/ideas/{next(iter(conflicts)).name}"
        raise Failure(f"{len(conflicts)} patches do not merge: fix each by hand, as after {one}", 1)


if __name__ == "__main__":
    run(main)
