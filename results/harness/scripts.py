"""The training scripts as modules, and what they and their presets are: steps."""

import ast
import hashlib
import sys
import types
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from harness.command import ROOT, Failure

NEEDED = set("LABEL BUILDS_ON PRESETS NAMES_SHA256 Config load_data run_name source_hash".split())


def load(path):
    """The training script as a module; unlike an import, this leaves no __pycache__ behind."""
    path = Path(path)
    if not path.is_file():
        raise Failure(f"there is no script {path}")
    module = types.ModuleType(path.stem.replace("-", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except (Exception, SystemExit) as error:  # a script in the making can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise Failure(f"cannot load {path.name}, {reason}: mend it or move it away") from error
    lacking = NEEDED - vars(module).keys()
    if lacking:
        raise Failure(f"{path.name} is no training script, it has no {', '.join(sorted(lacking))}")
    module.Failure = Failure  # in place of its own, so that a command tells it in one line
    return module


def load_names(module):
    """makemore's names, downloaded on first use: no other data is comparable."""
    data = module.load_data(None, module.Config(), "cpu")
    if data.hash != module.NAMES_SHA256[:12]:
        raise Failure("data/names.txt is not to be had, or not makemore's: see data/README.md", 1)
    return data


@dataclass
class Step:
    """A script, or a preset of one, with the runs recorded of it."""

    key: str  # "train-2.py --preset 64x4": what others build on, and the command that runs it
    module: types.ModuleType
    preset: str  # empty for the script itself
    label: str
    builds_on: str | None
    config: object
    rows: dict = field(default_factory=dict)  # seed: row
    published: dict = field(default_factory=dict)  # train, test and exact, where there are any

    @property
    def path(self):
        return Path(self.module.__file__)

    @cached_property
    def fingerprint(self):
        return fingerprint(self.module.source_hash(), asdict(self.config))

    def values(self, figure):
        """The figure of every run, by seed."""
        return [value_of(row, figure) for row in self.rows.values()]

    def file(self, folder, seed, suffix, results):
        """The file of a canonical CPU run: steps know how runs name their files."""
        data = types.SimpleNamespace(name="names.txt", hash=self.module.NAMES_SHA256[:12])
        name = self.module.run_name(self.path.name, self.preset, "", data, "cpu", seed)
        return results / folder / (name + suffix)


def value_of(row, figure):
    """A column of a row, or the difference of two: "test", "test-train"."""
    first, _, second = figure.partition("-")
    return row[first] - row[second] if second else row[first]


def steps_of(module):
    """The step that a script is, and those that its presets are."""
    name = Path(module.__file__).name
    try:
        steps = [Step(name, module, "", module.LABEL, module.BUILDS_ON, module.Config())]
        for preset, entry in module.PRESETS.items():
            key, config = f"{name} --preset {preset}", module.Config(**entry["knobs"])
            steps.append(Step(key, module, preset, entry["label"], entry["builds_on"], config))
    except (AttributeError, KeyError, TypeError) as error:
        raise Failure(f"{name}: PRESETS is not label, builds_on and knobs ({error})") from error
    for step in steps:
        if not isinstance(step.label, str) or not isinstance(step.builds_on, str | None):
            raise Failure(f"{step.key}: its label and what it builds on must be strings")
    return steps


def find_steps(root=ROOT):
    """Every step by its key, in the order of what builds on what, the shorter branch first."""
    modules = [load(path) for path in sorted(root.glob("train-2*.py"))]
    steps = {step.key: step for module in modules for step in steps_of(module)}
    above = {None: []} | {key: [] for key in steps}
    for step in steps.values():
        if step.builds_on not in above:
            raise Failure(f"{step.key} builds on {step.builds_on!r}, and there is no such step")
        above[step.builds_on].append(step.key)

    def branch(key):
        branches = sorted((branch(child) for child in above[key]), key=len)
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


def chosen(steps, names):
    """The steps that names call, a script's name being for its presets too; all without names."""
    for name in names:
        if not any(f"{key} ".startswith(f"{name} ") for key in steps):
            raise Failure(f"{name!r} is neither a script here nor one with a preset of it")
    wanted = [key for key in steps if any(f"{key} ".startswith(f"{name} ") for name in names)]
    return [steps[key] for key in (wanted if names else steps)]


def parts(path):
    """The script's docstring, which `python -OO` would drop, and the lines after it."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree)
    end = tree.body[0].end_lineno if docstring else 0
    return docstring or "", text.splitlines()[end:]


def fingerprint(source, settings):
    """Short hash of all that a result depends on but the seed and the threads."""
    knobs = sorted(item for item in settings.items() if item[0] not in ("seed", "threads"))
    return hashlib.sha256(f"{source} {knobs}".encode()).hexdigest()[:12]
