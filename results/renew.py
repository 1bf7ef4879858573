"""Write the ideas' patches anew after a training script has changed.

    python results/renew.py

Every patch in results/ideas is applied to the scripts as they now are, merging where it has to
(git apply --3way), and made again from the result. Nothing is written unless all of them apply. A
patch whose script lies in the root is left as it is.
"""

import re
import shutil
import tempfile
from pathlib import Path

from harness.command import ROOT, Failure, Parser, run, write_whole
from harness.ideas import git, head_of, patches

WHO = "-c", "user.name=renew", "-c", "user.email=renew@localhost"


def must(done, what):
    """The output of a git command, which has to succeed."""
    if done.returncode:
        raise Failure(f"{what}: {done.stderr or done.stdout}", 1)
    return done.stdout


def renewed(folder, script, patch):
    """The patch as it is against the scripts in the folder, a repository; None if it conflicts."""
    base = re.search(r"^copy from (.*)$", patch.read_text(encoding="utf-8"), flags=re.M)
    if not base:
        raise Failure(f"{patch} copies no script: make it with git diff -C --find-copies-harder")
    if git(folder, "apply", "--3way", str(patch.resolve())).returncode:
        return None
    words = "diff", "--cached", "-C", "--find-copies-harder", "--full-index", "HEAD", "--"
    diff = must(git(folder, *words, base[1], script), f"cannot compare {script}")
    return f"{head_of(patch).rstrip()}\n\n{diff}".lstrip()


def main(argv=None, root=ROOT):
    Parser(__doc__).parse_args(argv)
    new, conflicts = {}, []
    with tempfile.TemporaryDirectory(prefix="renew-") as name:
        folder = Path(name).resolve() / "clone"
        words = "clone", "--quiet", "--shared", str(root.resolve()), str(folder)
        must(git(folder.parent, *words), "cannot clone the project")
        for script in root.glob("train-2*.py"):
            shutil.copy(script, folder)
        must(git(folder, "add", "--all"), "cannot add the scripts")
        must(git(folder, *WHO, "commit", "--quiet", "--allow-empty", "-m", "now"), "cannot commit")
        for script, patch in patches(root).items():
            if (folder / script).exists():
                continue  # a script in the root wins over its patch
            text = renewed(folder, script, patch)
            must(git(folder, "reset", "--quiet", "--hard"), "cannot go back")
            if text is None:
                conflicts.append(patch.stem)
            elif text != patch.read_text(encoding="utf-8"):
                new[patch] = text
    if conflicts:
        one = f"git apply --3way results/ideas/{conflicts[0]}.patch"
        raise Failure(f"conflicts in {', '.join(conflicts)}: fix each by hand, as after {one}", 1)
    for patch, text in new.items():
        write_whole(patch, text.encode())
    print(f"{len(new)} patches written anew")


if __name__ == "__main__":
    run(main)
