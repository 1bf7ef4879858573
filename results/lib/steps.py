"""What a step is: a training script, a preset of it, or either with other settings.

An idea is a script that a patch makes of another one, or a row of ideas/settings.csv. A step has
one name, see lib/names.py.
"""

import ast
import hashlib
import io
import re
import sys
import types
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from lib.command import ROOT, Failure
from lib.files import numbered
from lib.names import OF_A_RUN, flags, join, preset_of, script_of, split, with_preset
from lib.patches import OWN_STEPS, applied, group_of, note, patches, scripts

NEEDED = set("BUILDS_ON PRESETS NAMES_SHA256 Config load_data parse run_name source_hash".split())


# --- Scripts ---
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


def parsed(module, words, what):
    """What the script's own command line makes of the words: its options, Config and overrides."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):  # argparse's usage is of the script
            return module.parse(words)
    except SystemExit as error:
        reason = said.getvalue().strip() or str(error.code)
        raise Failure(f"{what}: {reason.rpartition('error: ')[2]}") from error


def fingerprint(source, settings):
    """Short hash of all that a result depends on but the seed and the threads."""
    items = sorted(item for item in settings.items() if item[0] not in ("seed", "threads"))
    return hashlib.sha256(f"{source} {items}".encode()).hexdigest()[:12]


# --- Steps ---
@dataclass(eq=False)
class Step:
    """A script, a preset of one, or either with other settings."""

    key: str  # "train-2@20k,grad_clip=1.0": its one name
    module: types.ModuleType
    preset: str  # empty for the script itself
    label: str
    builds_on: str | None
    config: object
    text: str  # of the script
    source: str  # hash of what in it makes the results
    patch: Path | None = None  # that makes the script of an idea
    group: str | None = None  # of an idea
    settings: dict = field(default_factory=dict)  # in which it differs from its script or preset
    listed: Path | None = None  # settings.csv, if that has it
    short: str | None = None  # its other name there

    @cached_property
    def path(self):
        return Path(self.module.__file__)

    @property
    def file(self):
        """What a reader opens to see what it is."""
        return self.listed or self.patch or self.path

    @cached_property
    def script(self):
        return self.path.stem

    @property
    def is_idea(self):
        """Whether it is in a group, as are the presets of an idea's script."""
        return self.group is not None

    @property
    def is_preset(self):
        return bool(self.preset) and not self.settings

    @property
    def group_name(self):
        """What calls an idea together with others: positions, positions@64x4."""
        return self.group if self.listed else f"{self.group}{self.key.removeprefix(self.script)}"

    @cached_property
    def fingerprint(self):
        return fingerprint(self.source, asdict(self.config))

    @property
    def words(self):
        """What runs it, as words of a command line: its script and its flags."""
        preset = ["--preset", self.preset] if self.preset else []
        return [self.path.name, *preset, *flags(self.settings)]

    def run_name(self, seed, overrides=None, data=None, data_hash=None, device="cpu"):
        """The name of a run's files; the overrides are those of the step unless given."""
        if overrides is None:
            overrides = " ".join(f"{key}={self.settings[key]}" for key in sorted(self.settings))
        run = {"script": self.script, "preset": self.preset, "overrides": overrides, "seed": seed}
        run |= {"data": data, "data_hash": data_hash or self.module.NAMES_SHA256[:12]}
        return self.module.run_name(run | {"device": device})


def steps_of(module, patch=None):
    """The step that a script is, and those that its presets are, by name."""
    path = Path(module.__file__)
    name, text = path.stem, path.read_text(encoding="utf-8-sig")
    made_by = text, module.source_hash(), patch, patch and group_of(patch)
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
    return {step.key: step for step in steps}


# --- Steps by name ---
def configured(steps, base, settings):
    """The step that a script or preset is with these settings, {field: text}.

    Its script's own command line reads them. Those that are as in the script or preset anyway are
    no part of its name. Where it is none of the steps it is made: no table of a page shows it.
    """
    name, kinds = join(base.key, settings), {x.name: x.type for x in fields(base.config)}
    for key, text in settings.items():
        if key not in kinds:
            known = ", ".join(sorted(kinds.keys() - OF_A_RUN))
            raise Failure(f"{name!r}: {base.script} has no setting {key}; it has {known}")
        if kinds[key] is bool and str(text) not in ("True", "False"):
            raise Failure(f"{name!r}: {key} is True or False")
    words = {x: str(y) == "True" if kinds[x] is bool else y for x, y in settings.items()}
    words = [*base.words[1:], *flags(words), "--device", "cpu"]
    _, config, overrides = parsed(base.module, words, repr(name))
    own = {word.partition("=")[0] for word in overrides.split()}
    own = {key: getattr(config, key) for key in sorted(own)}
    key = join(base.key, own)
    if key in steps:
        return steps[key]
    # With a preset, what is in settings.csv is compared with what that builds on, with the preset.
    alike = steps.get(join(base.script, own)) if base.preset else None
    builds_on = with_preset(alike.builds_on, base.preset) if alike else base.key
    made = {"key": key, "label": key, "builds_on": builds_on, "config": config, "settings": own}
    return replace(base, **made)


def find(steps, name):
    """The step that a name calls; None where its script or preset is not here."""
    base, settings = split(name)
    found = steps.get(base) or next((x for x in steps.values() if base == x.short), None)
    if found and settings:
        of = steps[split(found.key)[0]]
        return configured(steps, of, found.settings | settings)
    return found


def named(steps, name):
    """The step that a name calls."""
    found = find(steps, name)
    if not found:
        raise Failure(f"{name!r} is no script, preset or idea here")
    return found


def chosen(steps, names):
    """The steps that the names call; without names all but presets that only ideas or copies have.

    Those are named: train-2-swiglu@64x4, architecture@64x4.
    """
    if not names:
        found = [step for step in steps.values() if not (step.is_idea and step.is_preset)]
        return [x for x in found if not x.is_preset or preset_of(x.builds_on) != x.preset]
    called = {}
    for name in names:
        members = [x for x in steps.values() if x.is_idea and x.group_name == name]
        found = members or [find(steps, name)]
        if not all(found):
            raise Failure(f"{name!r} is no script, preset, idea or group of ideas here")
        called |= {step.key: step for step in found}
    return [step for key, step in (steps | called).items() if key in called]


def refuse_twice(step, words):
    """Raise Failure for a flag whose field is in the step's name, too."""
    if step.settings and words:
        options, _, _ = parsed(step.module, ["--device", "cpu", *words], f"{step.key}, flags")
        if twice := sorted(step.settings.keys() & vars(options).keys()):
            raise Failure(f"{twice[0]} is in the name {step.key} and among the flags, too")


# --- All steps ---
LISTED = "name short label group builds_on text".split()


def listed_step(steps, row, path):
    """The step of a row of settings.csv."""
    base, settings = split(row["name"])
    if base not in steps:
        raise Failure(f"there is no script or preset {base}")
    step = configured(steps, steps[base], settings)
    if step.key in steps:
        raise Failure(f"{row['name']!r} is there already, as {step.key}")
    short, label = row["short"] or None, row["label"] or step.key
    if short and (find(steps, short) or not re.fullmatch(rf"{step.script}@[\w.-]+", short)):
        raise Failure(f"the short name {short!r} must be {step.script}@ and a word of its own")
    if same := [x.key for x in steps.values() if x.label == label]:
        raise Failure(f"the label {label!r} is that of {same[0]}, too")
    builds_on, group = row["builds_on"] or base, row["group"] or OWN_STEPS
    known = {"short": short, "label": label, "builds_on": builds_on, "group": group}
    return replace(step, **known, listed=path)


@contextmanager
def at_line(path, line):
    """Failures get their place in a file."""
    try:
        yield
    except Failure as error:
        raise Failure(f"{path}, line {line}: {error}") from error


def add_listed(root, steps):
    """Add the ideas that need no code, which settings.csv has."""
    path = root / "results" / "ideas" / "settings.csv"
    absent = {name.removesuffix(".py") for name in patches(root)} - steps.keys()
    added = []
    for line, row in numbered(path, LISTED):
        with at_line(path, line):
            if {script_of(row["name"]), script_of(row["builds_on"])} & absent:
                note(f"{row['name']} is left out: its base is not there")
                continue
            step = listed_step(steps, row, path)
            steps[step.key] = step
            added.append((line, step))
    for line, step in added:  # they may build on each other
        with at_line(path, line):
            step.builds_on = named(steps, step.builds_on).key


def leave_out(steps):
    """Remove the ideas whose base is not there."""

    def lost(step):
        needed = step.builds_on or "", step.script, split(step.key)[0]
        return step.is_idea and not all(split(name)[0] in steps for name in needed)

    while gone := [step for step in steps.values() if lost(step)]:
        for step in gone:
            del steps[step.key]
            note(f"{step.key} is left out: its base is not there")


def all_steps(root, folder):
    """The steps of the root's scripts and of the ideas that were applied in a folder, by name."""
    steps, by_script = {}, patches(root)
    for path in scripts(folder):
        own, patch = root / path.name, by_script.get(path.name)
        try:
            steps |= steps_of(load(own if own.exists() else path), patch)
        except Failure as error:
            if own.exists():
                raise
            note(f"{patch.name} is left out: {error}")  # an idea blocks no other
    add_listed(root, steps)
    for step in [step for step in steps.values() if step.builds_on]:
        try:
            found = find(steps, step.builds_on)
        except Failure as error:
            if (root / step.path.name).exists():
                raise Failure(f"{step.key} builds on {error}") from error
            note(f"{step.key} builds on {error}")
            found, step.builds_on = None, ""
        step.builds_on = found.key if found else step.builds_on
    leave_out(steps)
    for step in steps.values():
        # A preset that the script's base has as well is compared with the base's: the settings of
        # the preset take the place of the base's, as they do in the script.
        base = steps[step.script].builds_on
        same = base and step.is_preset and steps.get(f"{script_of(base)}@{step.preset}")
        if same:
            set_by = same.module.PRESETS[step.preset]["settings"]
            kept = {key: x for key, x in split(base)[1].items() if key not in set_by}
            step.builds_on = configured(steps, same, kept).key if kept else same.key
    return steps


def find_steps(root=ROOT, folder=None):
    """Every step by its name, in the order of what builds on what, the shorter branch first.

    Ideas are taken from the folder that their patches were applied in, if there is one already.
    """
    if folder is None:
        with applied(root) as folder:
            return find_steps(root, folder)
    steps = all_steps(root, folder)
    above = {None: []} | {key: [] for key in steps}
    for step in steps.values():
        base = step.builds_on
        if base and base not in steps:  # it may be one of these with other settings
            base = split(base)[0]
        if base not in above:
            raise Failure(f"{step.key} builds on {step.builds_on!r}, and there is no such step")
        above[base].append(step.key)

    def length(keys):  # ideas do not change the order of the others
        return sum(not steps[key].is_idea for key in keys)

    def branch(key):
        branches = sorted((branch(child) for child in above[key]), key=length)
        return [key, *(key for keys in branches for key in keys)]

    order = branch(None)[1:]
    circle = sorted(steps.keys() - set(order))
    if circle:
        raise Failure(f"what builds on what goes in a circle: {', '.join(circle)}")
    return {key: steps[key] for key in order}
