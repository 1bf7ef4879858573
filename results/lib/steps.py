"""What a step is: a training script, a preset of it, or either with other settings.

An idea is a script that a patch makes of another one, or a row of ideas/settings.csv. A step has
one name, see lib/names.py.
"""

import difflib
import inspect
import re
import types
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from lib.command import ROOT, Failure
from lib.files import numbered
from lib.known import CHAIN, LAST, PRESETS_ONLY, RECIPE, TUNED
from lib.names import OF_A_RUN, expand, flags, join, script_of, split, with_preset
from lib.patches import OWN_STEPS, Made, group_of, head_of, note
from lib.scripts import fingerprint, load, parsed, source_of


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
    patch: Path | None = None  # that makes the script of an idea
    group: str | None = None  # of an idea
    settings: dict = field(default_factory=dict)  # in which it differs from its script or preset
    listed: Path | None = None  # settings.csv, if that has it
    short: str | None = None  # its other name there
    # {"Batches", "Names", "Test": whose own they are, see own_of()}, also of what it builds on
    own: dict = field(default_factory=dict)

    @cached_property
    def path(self):
        return Path(self.module.__file__)

    @cached_property
    def text(self):
        return self.path.read_text(encoding="utf-8-sig")

    @property
    def docstring(self):
        return inspect.cleandoc(self.module.__doc__ or "")

    @cached_property
    def source(self):
        """The hash of what in its script makes the results."""
        return source_of(self.module)

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
    def is_own(self):
        """Whether it is somebody's own: no page shows it before it is a patch."""
        return not self.is_idea and self.script not in CHAIN

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

    def own_of(self, what):
        """The script, setting and default in its line `WHAT: its own, by SETTING`.

        Setting and default are None without `by SETTING`: nothing else decides. The line is in its
        patch, or in the docstring of its script; without one there is None.
        """
        head = head_of(self.patch) if self.patch else self.docstring
        found = re.search(rf"^{what}: its own(?:, by (\w+))?$", head, flags=re.M)
        usual = self.module.Config()
        if found and found[1] and not hasattr(usual, found[1]):
            raise Failure(f"{found[0]!r}, but there is no setting {found[1]}")
        return found and (self.script, found[1], found[1] and getattr(usual, found[1]))

    @property
    def batches(self):
        """What decides which names a seed draws: runs are paired where it is the same."""
        return self.decided("Batches"), self.config.batch_size, self.test_set

    def decided(self, what):
        """Whose own its batches or test names are, and the value of the setting that decides."""
        script, setting, _ = self.own.get(what, (None, None, None))
        return script, setting and getattr(self.config, setting)

    @property
    def test_set(self):
        """What decides on which names it is tested: losses on other ones have no change."""
        return self.decided("Test"), self.config.split_seed, self.config.validate

    def names_of(self, settings=None):
        """The step on whose names n-gram models are counted to compare with it.

        The settings are its own, unless others are given.
        """
        settings = settings or asdict(self.config)
        script, setting, usual = self.own.get("Names") or self.own.get("Test") or (LAST, None, None)
        if not setting or settings[setting] == usual:
            return script
        return join(script, {setting: settings[setting]})

    def limits(self, name):
        """The smallest and the largest value of a setting, as far as it has any."""
        (found,) = [x for x in fields(self.config) if x.name == name]
        return {found.metadata[x] for x in ("low", "high") if x in found.metadata}

    @property
    def default_split(self):
        """Whether its names are split as the scripts do without flags."""
        usual = type(self.config)()
        return (self.config.split_seed, self.config.validate) == (usual.split_seed, usual.validate)

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
    name, group = Path(module.__file__).stem, patch and group_of(patch)
    label, colon, _ = inspect.cleandoc(module.__doc__ or "").partition("\n")[0].partition(":")
    if not colon:
        raise Failure(f"{name}.py: its docstring must begin with LABEL: what it is")
    if not patch and name not in CHAIN:
        label = name  # a copy still has the label of its original
    if not isinstance(module.BUILDS_ON, str | None):
        raise Failure(f"{name}.py: BUILDS_ON is the name of a step, or None")
    try:
        of = name, module, "", label, module.BUILDS_ON, module.Config(), patch, group
        steps = [Step(*of)]
        for preset, entry in module.PRESETS.items():
            named = entry["label"] if name in CHAIN else f"{label}, {entry['label']}"
            config = module.Config(**entry["settings"])
            of = f"{name}@{preset}", module, preset, named, entry["builds_on"], config
            steps.append(Step(*of, patch, group))
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


def like(steps, name):
    """A hint: what there is whose name is nearly that one."""
    made = [script.removesuffix(".py") for script in steps.made.patches]
    known = {*steps, *made, *(x.short for x in steps.values() if x.short)}
    known |= {x.group_name for x in steps.values() if x.is_idea}
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def chosen(steps, names):
    """The steps that the names call; without names all but one's own and the presets of ideas.

    Those are named (train-2-swiglu@64x4, architecture@64x4), as are ideas that need a preset.
    """
    if not names:
        shown = [x for x in steps.values() if not x.is_own and x.group != PRESETS_ONLY]
        return [x for x in shown if not (x.is_preset and x.is_idea)]
    called = {}
    for name in names:
        members = [x for x in steps.values() if x.is_idea and x.group_name == name]
        step = find(steps, name) if name in steps or not members else None
        found = [step] if step else members
        if not found:
            raise Failure(
                f"{name!r} is no script, preset, idea or group of ideas{like(steps, name)}"
            )
        called |= {step.key: step for step in found}
    return [step for key, step in (steps | called).items() if key in called]


def untuned(steps, tuned):
    """The step that one with the tuned recipe is without it."""
    base, settings = split(tuned.key)
    own = {x: text for x, text in settings.items() if x not in {"learning_rate", *RECIPE}}
    return named(steps, join(base, own))


def timed_against(steps, step):
    """The step with which it takes turns when it is timed; None for the first of the chain.

    That is what it builds on, but for a tuned step, the same without the recipe: a tuned model and
    an untuned one have one chain of ratios.
    """
    if step.group == TUNED:
        return untuned(steps, step)
    return step.builds_on and named(steps, step.builds_on)


def refuse_twice(step, words):
    """Raise Failure for a flag whose field is in the step's name, too."""
    if step.settings and words:
        options, _, _ = parsed(step.module, ["--device", "cpu", *words], f"{step.key}, flags")
        if twice := sorted(step.settings.keys() & vars(options).keys()):
            raise Failure(f"{twice[0]} is in the name {step.key} and among the flags, too")


# --- All steps, or those that are asked about ---
LISTED = "name short label group builds_on text".split()


class Steps(dict):
    """The steps of a root by name, and `made`, the scripts that patches make.

    With names it holds only the steps of the scripts that these call, and of what those build on:
    nothing else is patched or loaded. Without it holds all that can be loaded.
    """

    def __init__(self, root, names=None):
        super().__init__()
        self.root, self.made, self.seen, self.owned = root, Made(root), set(), {}
        self.groups = {x[:-3]: group_of(patch) for x, patch in self.made.patches.items()}
        self.listed = root / "results" / "ideas" / "settings.csv"
        self.rows = numbered(self.listed, LISTED)
        self.partial = names is not None
        for script in self.made.names() if names is None else self.called(names):
            self.add(script, asked=self.partial or script in CHAIN)
        for line, row in self.rows:
            self.add_row(line, row)
        for step in [*self.values()]:
            self.resolve(step)
        self.leave_out({*self})
        ordered = self.order()
        self.leave_out({*ordered})
        found = {key: self[key] for key in ordered if key in self}
        self.clear()
        self |= found
        for step in self.values():
            self.compare_presets(step)
            self.inherit(step)

    def called(self, names):
        """The scripts that names call: of steps, short names, and groups of ideas."""
        found = []
        for name in names:
            base, *_ = name.split(",")
            group, script = base.partition("@")[0], base.partition("@")[0].removesuffix(".py")
            found += [x for x, its_group in self.groups.items() if its_group == group]
            found.append(script)
            for line, row in self.rows:
                with at_line(self.listed, line):
                    of = script_of(row["name"])
                    if script == of or group == (row["group"] or OWN_STEPS) or base == row["short"]:
                        found += [of, script_of(row["builds_on"] or of)]
        known = {path.stem for path in self.root.glob("train-2*.py")} | self.groups.keys()
        return [script for script in dict.fromkeys(found) if script in known]

    def add(self, script, asked=False):
        """Load a script, and what it builds on. What cannot be loaded is left out, if not asked."""
        if script in self.seen:
            return
        self.seen.add(script)
        own, patch = self.root / f"{script}.py", self.made.patch(script)
        try:
            path = self.made.path(script)
            module = load(own if own.is_file() else path)
            module.made = self.made  # so that its file lasts as long as its steps do
            found = steps_of(module, patch)
            owned = {what: found[script].own_of(what) for what in ("Batches", "Names", "Test")}
            self.owned[script] = {what: own for what, own in owned.items() if own}
            bases = self.called([x.builds_on for x in found.values() if x.builds_on])
        except Failure as error:
            if asked:
                raise Failure(f"{script}: {error}") from error
            what, hint = script, ""
            if patch and not own.is_file():
                what, hint = patch.name, "; see results/renew.py --help"
            return note(f"{what} is left out: {error}{hint}")
        for base in bases:
            self.add(base)
        self |= found

    def add_row(self, line, row):
        """Add an idea that needs no code, which settings.csv has."""
        with at_line(self.listed, line):
            base, on = split(row["name"])[0], script_of(row["builds_on"] or row["name"])
            if base in self and on in self:
                step = listed_step(self, row, self.listed)
                self[step.key] = step
            elif not self.partial:
                note(f"{row['name']} is left out: its base is missing")

    def resolve(self, step):
        """Put the one name of what a step builds on in the place of the name that it gives."""
        if step.builds_on:
            try:
                step.builds_on = named(self, step.builds_on).key
            except Failure as error:
                if not step.is_idea and not step.is_own:
                    raise Failure(f"{step.key} builds on {error}") from error
                del self[step.key]
                note(f"{step.key} is left out: it builds on {error}")

    def leave_out(self, kept):
        """Remove the steps that are not in `kept`, or whose script or base is not there."""
        gone = True
        while gone:
            there, gone = kept & self.keys(), []
            for key, step in self.items():
                if not {key, step.script, split(step.builds_on or key)[0]} <= there:
                    gone.append(key)
            for key in gone:
                del self[key]
                note(f"{key} is left out: its base is missing, or BUILDS_ON goes in a circle")

    def order(self):
        """The keys, each after what it builds on, the shorter branch first; none of a circle."""
        above = {None: []}
        for key, step in self.items():
            base = step.builds_on
            if base not in self and base:  # one of these with other settings
                base = split(base)[0]
            above.setdefault(base, []).append(key)

        def length(keys):  # ideas do not change the order of the others
            return sum(not self[key].is_idea for key in keys)

        def branch(key):
            branches = sorted((branch(child) for child in above.get(key, [])), key=length)
            return [key, *(key for keys in branches for key in keys)]

        return branch(None)[1:]

    def inherit(self, step):
        """Take over what is not as usual in the data of the script that its script builds on."""
        base = self[step.script].builds_on
        above = self[script_of(base)].own if base else {}
        # A copy that no longer has the setting has the names of its default.
        kept = {x: own for x, own in above.items() if hasattr(step.config, own[1] or "seed")}
        above = {x: kept.get(x, (own[0], None, None)) for x, own in above.items()}
        step.own = above | self.owned[step.script]

    def compare_presets(self, step):
        """A preset that the script's base has as well is compared with the base's.

        The settings of the preset take the place of the base's, as they do in the script.
        """
        base = self[step.script].builds_on
        same = base and step.is_preset and self.get(f"{script_of(base)}@{step.preset}")
        if same:
            set_by = same.module.PRESETS[step.preset]["settings"]
            kept = {key: x for key, x in split(base)[1].items() if key not in set_by}
            step.builds_on = configured(self, same, kept).key if kept else same.key


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


def find_steps(root=ROOT, names=None):
    """The steps by name, in the order of what builds on what: all, or those that names call."""
    return Steps(root, names and [one for name in names for one in expand(name)])
