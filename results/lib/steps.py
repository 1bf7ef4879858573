"""What a step is: a training script, an idea (a patch that makes one of another), or a preset.

A step has one name: train-2-2head, train-2@final.
"""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from lib.command import ROOT, Failure

NEEDED = set("BUILDS_ON PRESETS NAMES_SHA256 Config load_data parse run_name source_hash".split())


def note(text):
    print(f"note: {text}", file=sys.stderr)


# --- Scripts ---
def scripts(root):
    """The training scripts of a folder. `train-2 copy.py` is none: a name has no blanks."""
    found = []
    for path in sorted(root.glob("train-2*.py")):
        if re.fullmatch(r"train-2(-[\w.-]+)?", path.stem):
            found.append(path)
        else:
            note(f"{path.name} is left out: a script is called train-2-NAME.py, without blanks")
    return found


def load(path):
    """The training script as a module; unlike an import, this leaves no __pycache__ behind."""
    path = Path(path)
    if not path.is_file():
        raise Failure(f"there is no script {path.name}")
    module = types.ModuleType(path.stem.replace("-", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except (Exception, SystemExit) as error:  # a script in the making can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise Failure(f"cannot load {path.name}, {reason}: fix it or move it away") from error
    lacking = NEEDED - vars(module).keys()
    if lacking:
        raise Failure(f"{path.name} is no training script, it has no {', '.join(sorted(lacking))}")
    return module


def load_names(module):
    """makemore's names, downloaded on first use: no other data is comparable."""
    data = module.load_data(None, module.Config(), "cpu")
    if data.hash != module.NAMES_SHA256[:12]:
        raise Failure("data/names.txt is not to be had, or not makemore's: see data/README.md", 1)
    return data


def docstring(text):
    """A script's docstring, which `python -OO` would drop."""
    return ast.get_docstring(ast.parse(text)) or ""


def fingerprint(source, settings):
    """Short hash of all that a result depends on but the seed and the threads."""
    items = sorted(item for item in settings.items() if item[0] not in ("seed", "threads"))
    return hashlib.sha256(f"{source} {items}".encode()).hexdigest()[:12]


# --- Ideas ---
def patches(root):
    """The patches by the name of the script that each makes."""
    found = sorted((root / "results" / "ideas").glob("*.patch"))
    return {f"train-2-{patch.stem}.py": patch for patch in found}


def head_of(patch):
    """What stands in a patch before its diff: what the idea is."""
    return re.split("^diff --git ", patch.read_text("utf-8", "replace"), maxsplit=1, flags=re.M)[0]


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
    environment["GIT_CONFIG_GLOBAL"] = "/dev/null"  # to git, on Windows too
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


# --- Steps ---
@dataclass(eq=False)
class Step:
    """A script, an idea, or a preset of one."""

    key: str  # "train-2@64x4": its one name
    module: types.ModuleType
    preset: str  # empty for the script itself
    label: str
    builds_on: str | None
    config: object
    text: str  # of the script
    source: str  # hash of what in it makes the results
    patch: Path | None = None  # of an idea

    @property
    def path(self):
        return Path(self.module.__file__)

    @property
    def script(self):
        return self.path.stem

    @cached_property
    def fingerprint(self):
        return fingerprint(self.source, asdict(self.config))

    @cached_property
    def group(self):
        """The group of an idea; None for the steps of the chain."""
        named = self.patch and re.search(r"^Group: *(\S.*)$", head_of(self.patch), flags=re.M)
        return (named[1].strip() if named else "own steps") if self.patch else None

    @property
    def names(self):
        """What calls it on a command line: its key, or that with the group of an idea for it."""
        return {self.key, self.key.replace(self.script, self.group or self.script)}

    @property
    def words(self):
        """What runs it, as words of a command line: its script and the flag of its preset."""
        return [self.path.name, *(["--preset", self.preset] if self.preset else [])]

    def run_name(self, seed, overrides="", data_hash=None, device="cpu"):
        """The name of a run's files."""
        run = {"script": self.script, "preset": self.preset, "overrides": overrides, "seed": seed}
        run["data_hash"] = data_hash or self.module.NAMES_SHA256[:12]
        return self.module.run_name(run | {"device": device})


def steps_of(module, patch=None):
    """The step that a script is, and those that its presets are."""
    path = Path(module.__file__)
    name, text = path.stem, path.read_text(encoding="utf-8")
    made_by = text, module.source_hash(), patch
    label, colon, _ = docstring(text).partition("\n")[0].partition(":")
    if not colon:
        raise Failure(f"{path.name}: its docstring must begin with LABEL: what it is")
    try:
        steps = [Step(name, module, "", label, module.BUILDS_ON, module.Config(), *made_by)]
        for preset, entry in module.PRESETS.items():
            key, config = f"{name}@{preset}", module.Config(**entry["settings"])
            base = entry["builds_on"]
            steps.append(Step(key, module, preset, entry["label"], base, config, *made_by))
    except (AttributeError, KeyError, TypeError) as error:
        raise Failure(f"{name}: PRESETS is not label, builds_on and settings ({error})") from error
    return steps


def all_steps(root, folder):
    """The steps of the root's scripts and of the ideas that were applied in a folder, by key."""
    steps, by_script = {}, patches(root)
    for path in scripts(folder):
        own, patch = root / path.name, by_script.get(path.name)
        try:
            found = steps_of(load(own if own.exists() else path), patch)
        except Failure as error:
            if own.exists():
                raise
            note(f"{patch.name} is left out: {error}")  # an idea blocks no other
            continue
        steps |= {step.key: step for step in found}

    def lost(step):  # with its script's base, presets included
        return step.patch and not {step.builds_on, step.module.BUILDS_ON} <= steps.keys()

    while gone := [step for step in steps.values() if lost(step)]:
        for step in gone:
            del steps[step.key]
            note(f"{step.key} is left out: its base is not there")
    for step in steps.values():
        # A preset that the script's base has as well is compared with the base's.
        same = f"{(step.module.BUILDS_ON or '').partition('@')[0]}@{step.preset}"
        if step.preset and same in steps:
            step.builds_on = same
    return steps


def find_steps(root=ROOT, folder=None):
    """Every step by its key, in the order of what builds on what, the shorter branch first.

    Ideas are taken from the folder that their patches were applied in, if there is one already.
    """
    if folder is None:
        with applied(root) as folder:
            return find_steps(root, folder)
    steps = all_steps(root, folder)
    above = {None: []} | {key: [] for key in steps}
    for step in steps.values():
        if step.builds_on not in above:
            raise Failure(f"{step.key} builds on {step.builds_on!r}, and there is no such step")
        above[step.builds_on].append(step.key)

    def length(keys):  # ideas do not change the order of the others
        return sum(steps[key].patch is None for key in keys)

    def branch(key):
        branches = sorted((branch(child) for child in above[key]), key=length)
        return [key, *(key for keys in branches for key in keys)]

    order = branch(None)[1:]
    circle = sorted(steps.keys() - set(order))
    if circle:
        raise Failure(f"what builds on what goes in a circle: {', '.join(circle)}")
    return {key: steps[key] for key in order}


def plain(name):
    """The name of a step without the .py of its script, as the shell completes it."""
    return re.sub(r"\.py(?=@|$)", "", name)


def named(steps, name):
    """The one step that has the name."""
    if plain(name) not in steps:
        raise Failure(f"{name!r} is no script, preset or idea here")
    return steps[plain(name)]


def chosen(steps, names):
    """The steps that the names call; without names all but presets that only ideas or copies have.

    Those are named: train-2-swiglu@64x4, architecture@64x4.
    """
    names = [plain(name) for name in names]
    for name in names:
        if not any(name in step.names for step in steps.values()):
            raise Failure(f"{name!r} is no script, preset, idea or group of ideas here")
    if names:
        return [step for step in steps.values() if step.names & set(names)]
    found = [step for step in steps.values() if not (step.patch and step.preset)]
    return [x for x in found if not x.preset or not x.builds_on.endswith(f"@{x.preset}")]
