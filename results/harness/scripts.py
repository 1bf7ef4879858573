"""The training scripts as modules, and what they and their presets are: steps."""

import ast
import hashlib
import re
import sys
import types
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from harness.command import ROOT, Failure
from harness.ideas import applied, group_of, patches

NEEDED = set("BUILDS_ON PRESETS NAMES_SHA256 Config load_data run_name source_hash".split())


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


def load_names(module, file=None):
    """makemore's names, downloaded on first use: no other data is comparable."""
    data = module.load_data(file, module.Config(), "cpu")
    if data.hash != module.NAMES_SHA256[:12]:
        raise Failure("data/names.txt is not to be had, or not makemore's: see data/README.md", 1)
    return data


def names_file(root, steps):
    """The path of makemore's names, which are downloaded on first use by a script of the root."""
    load_names(next(step.module for step in steps.values() if not step.patch))
    return root.resolve() / "data" / "names.txt"


@dataclass
class Step:
    """A script, an idea, or a preset of one, with the runs recorded of it."""

    key: str  # "train-2@64x4": its one name
    module: types.ModuleType
    preset: str  # empty for the script itself
    label: str
    builds_on: str | None
    config: object
    text: str  # of the script
    source: str  # hash of what in it makes the results
    patch: Path | None = None  # of an idea
    rows: dict = field(default_factory=dict)  # seed: row
    published: dict = field(default_factory=dict)  # train, test and exact, where there are any

    @property
    def path(self):
        return Path(self.module.__file__)

    @cached_property
    def fingerprint(self):
        return fingerprint(self.source, asdict(self.config))

    @cached_property
    def group(self):
        """The group of an idea; None for the steps of the chain."""
        return group_of(self.patch) if self.patch else None

    @property
    def names(self):
        """What calls it on a command line: itself, its script, its group.

        A script's name is for its presets too, but that of an idea is not: these are called
        train-2-swiglu@64x4 or architecture@64x4.
        """
        if not self.patch:
            return {self.key, self.path.stem}
        return {self.key, self.key.replace(self.path.stem, self.group)}

    @property
    def words(self):
        """What runs it, as words of a command line: its script and the flag of its preset."""
        return [self.path.name, *(["--preset", self.preset] if self.preset else [])]

    def values(self, figure):
        """The figure of every run, by seed."""
        return [value_of(row, figure) for row in self.rows.values()]

    def run_name(self, seed, overrides=""):
        """The name of the files of a run on names.txt and the CPU."""
        run = {"script": self.path.stem, "preset": self.preset, "overrides": overrides}
        run |= {"data_hash": self.module.NAMES_SHA256[:12], "device": "cpu", "seed": seed}
        return self.module.run_name(run)


def value_of(row, figure):
    """A column of a row, or the difference of two: "test", "test-train"."""
    first, _, second = figure.partition("-")
    return row[first] - row[second] if second else row[first]


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
    for step in steps:
        if not isinstance(step.label, str) or not isinstance(step.builds_on, str | None):
            raise Failure(f"{step.key}: its label and what it builds on must be strings")
    return steps


def all_steps(root, folder):
    """The steps of the root's scripts and of the ideas that were applied in a folder, by key."""
    steps, by_script = {}, patches(root)
    for path in sorted(folder.glob("train-2*.py")):
        own = root / path.name
        module = load(own if own.exists() else path)
        for step in steps_of(module, by_script.get(path.name)):
            steps[step.key] = step
    while lost := [x for x in steps.values() if x.patch and x.builds_on not in steps]:
        for step in lost:
            del steps[step.key]
            text = f"note: {step.key} is left out: there is no {step.builds_on}, its base"
            print(text, file=sys.stderr)
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
    labels = set()
    for key in order:
        if steps[key].label in labels:  # a copied script may have kept its label
            steps[key].label += f" ({steps[key].path.stem})"
        labels.add(steps[key].label)
    return {key: steps[key] for key in order}


def plain(name):
    """The name of a step without the .py of its script, as the shell completes it."""
    return re.sub(r"\.py(?=@|$)", "", name)


def chosen(steps, names):
    """The steps that the names call; without names all but the presets of ideas."""
    names = [plain(name) for name in names]
    for name in names:
        if not any(name in step.names for step in steps.values()):
            raise Failure(f"{name!r} is no script, preset, idea or group of ideas here")
    if names:
        return [step for step in steps.values() if step.names & set(names)]
    return [step for step in steps.values() if not (step.patch and step.preset)]


def docstring(text):
    """A script's docstring, which `python -OO` would drop."""
    return ast.get_docstring(ast.parse(text)) or ""


def fingerprint(source, settings):
    """Short hash of all that a result depends on but the seed and the threads."""
    items = sorted(item for item in settings.items() if item[0] not in ("seed", "threads"))
    return hashlib.sha256(f"{source} {items}".encode()).hexdigest()[:12]
