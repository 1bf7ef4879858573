"""All that is computed from the steps and the tables; it prints nothing.

A *name* is that of a step, or of an n-gram model: `bigram` or `kneser-ney`.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from lib.command import ROOT, Failure
from lib.known import CONTROLS, LAST, LOWEST, MODERN, NO_CANDIDATES, PARTS, REPLICATIONS, WITHOUT
from lib.names import preset_of, script_of, with_preset, with_settings
from lib.patches import patches
from lib.stats import changes, combine, holm, interval
from lib.steps import find, find_steps, fingerprint
from lib.tables import (
    CANONICAL,
    TABLES,
    Condition,
    copies,
    left_out,
    read_results,
    read_table,
    runs,
)

VALIDATE = Condition("--validate")
NGRAMS = {"bigram": "bigram (add-one)", "kneser-ney": "Kneser-Ney {}-gram"}


def ngram_label(row):
    return NGRAMS[row["model"].lower()].format(row["context"] + 1)


def figure(row, loss):
    """A loss of a run; None where it has none."""
    if loss == "lowest":
        return min((test for _, _, test in row["curve"]), default=None)
    return row[loss]


@dataclass
class Model:
    """A point of the frontier: what it costs to hold and to train, and its test loss."""

    label: str
    kind: str
    numbers: int  # parameters and counts
    seconds: float  # of training
    test: float


class Measured:
    """The steps of a folder with what is recorded and published of them."""

    def __init__(self, root=ROOT):
        self.root, self.found, self.by_name, self.of_script = root, {}, {}, {}
        self.steps = find_steps(root)
        self.rows = read_results(root / "results" / "results.csv")
        for row in self.rows:
            self.of_script.setdefault((row["script"], row["preset"]), []).append(row)
        self.tables = {name: read_table(root, name) for name in TABLES}
        self.copies = copies(self.rows, self.steps)
        labels = set()
        for key, step in self.steps.items():
            if step.script not in self.copies:
                if step.label in labels:  # a copied script may have kept its label
                    label = f"{step.label} ({step.script})"
                    if step.is_preset:  # which a copy has as well
                        label = f"{self.steps[step.script].label}, {step.label}"
                    self.steps[key] = replace(step, label=label)
                labels.add(self.steps[key].label)

    # --- Steps ---
    @property
    def compared(self):
        """The chain and the presets that have runs, in the order of the tables."""
        own = [x for x in self.steps.values() if not x.is_idea and x.script not in self.copies]
        return [step for step in own if not step.preset or self.runs(step)]

    @property
    def chain(self):
        return [step for step in self.compared if not step.preset]

    @property
    def presets(self):
        return [step for step in self.compared if step.preset]

    def group(self, name):
        """The ideas, controls or replications of a group, by their change in test."""
        found = [x for x in self.steps.values() if x.group == name and not x.is_preset]
        return sorted(found, key=lambda x: getattr(self.effect(x.key), "mean", math.inf))

    @property
    def groups(self):
        """The groups of ideas, without controls and replications."""
        groups = {step.group for step in self.steps.values() if step.is_idea}
        return sorted(groups - {CONTROLS, REPLICATIONS})

    def step(self, name):
        """The step that a name calls; None where there is none, or none just now."""
        if name not in self.by_name:
            self.by_name[name] = find(self.steps, name)
        return self.by_name[name]

    def key(self, name):
        """The one name of what a name calls. That of an idea may have no step just now."""
        if name in NGRAMS:
            return name
        if step := self.step(name):
            return step.key
        script = script_of(name)
        if script in self.steps or f"{script}.py" not in patches(self.root):
            raise Failure(f"there is no step, idea or n-gram model {name!r}")
        return name

    def label(self, name):
        step = self.step(name)
        return step.label if step else name

    # --- Losses ---
    def runs(self, step, condition=CANONICAL):
        """The rows that count, {seed, or (split, seed): row}."""
        key = step.key, condition.flags, condition.data_hash
        if key not in self.found:
            self.found[key] = runs(self.rows_of(step), step, condition)
        return self.found[key]

    def rows_of(self, step):
        """The rows of the step's script and preset, whether they count or not."""
        return self.of_script.get((step.script, step.preset), [])

    def others(self):
        """The rows that count nowhere, with `why`."""
        return left_out(self.rows, self.steps)

    def values(self, name, loss="test", condition=CANONICAL):
        """A loss, or the difference of two (test-train), {seed: value}.

        `lowest` is the lowest test loss of the learning curve. Where the split is left open, the
        values are means over the seeds of each split, {split: value}.
        """
        first, _, second = loss.partition("-")
        if second:
            return changes(*(self.values(name, part, condition) for part in (first, second)))
        if name in NGRAMS:
            if condition.by_split or {"--validate", "--split-seed"} & {*condition.rest}:
                return {}  # they are of the test set of the default split
            found = self.ngrams(condition).get(name, {}).get(loss)
            return {} if found is None else found
        step = self.step(name)
        rows = self.runs(step, condition) if step else {}
        values = {pair: figure(row, loss) for pair, row in rows.items()}
        values = {pair: value for pair, value in values.items() if value is not None}
        if condition.by_split:
            groups = {}
            for (split, _), value in values.items():
                groups.setdefault(split, []).append(value)
            values = {split: sum(found) / len(found) for split, found in groups.items()}
        return dict(sorted(values.items()))

    def mean(self, name, loss="test", condition=CANONICAL):
        """The interval of the mean; None without runs."""
        return interval(self.values(name, loss, condition))

    def effect(self, name, base=None, loss="test", condition=CANONICAL):
        """The interval of the paired change from the base, or from what the step builds on."""
        base = base or getattr(self.step(name), "builds_on", None)
        if base is None:
            return None
        return interval(changes(*(self.values(x, loss, condition) for x in (name, base))))

    def ngrams(self, condition=CANONICAL, script=LAST):
        """{name: row of ngram.csv}, counted on a list, or on the names that an idea leaves."""
        of = script, condition.data_hash or self.names_hash
        rows = [x for x in self.tables["ngram.csv"] if (x["script"], x["data_hash"]) == of]
        found = {row["model"].lower(): row for row in rows}
        return {name: found[name] for name in NGRAMS if name in found}

    @property
    def names_hash(self):
        return next(iter(self.steps.values())).module.NAMES_SHA256[:12]

    def on(self, data):
        """The condition of a list by the name of its file; None where no n-grams are of it."""
        rows = self.tables["ngram.csv"]
        found = {x["data_hash"] for x in rows if (x["script"], x["data"]) == (LAST, data)}
        return Condition(data_hash=found.pop()) if len(found) == 1 else None

    # --- The other tables, as far as they are of the steps as they are now ---
    def of_now(self, file):
        now = {key: step.fingerprint for key, step in self.steps.items()}
        return [row for row in self.tables[file] if row["fingerprint"] == now.get(row["step"])]

    @cached_property
    def speeds(self):
        return {row["step"]: row for row in self.of_now("speed.csv")}

    def time(self, name, of):
        """The training time as a fraction of another step's; None where one was not timed."""
        if not {name, of} <= self.speeds.keys():
            return None
        ms = [self.steps[x].config.steps * self.speeds[x]["ms_per_step"] for x in (name, of)]
        return ms[0] / ms[1]

    def new_names(self, name):
        """The fraction of generated names that are in neither split; None where not counted."""
        rows = [row for row in self.of_now("generated.csv") if row["step"] == name]
        return sum(x["new"] for x in rows) / sum(x["names"] for x in rows) if rows else None

    @cached_property
    def published(self):
        return {row["step"]: row for row in self.tables["published/chain.csv"]}

    def texts(self):
        """The runs of stream.py, {(script, text, block size, settings): {seed: its newest row}}."""
        groups = {}
        sources = {step.script: step.source for step in self.steps.values()}
        for row in sorted(self.tables["texts.csv"], key=lambda row: row["finished"]):
            if row["source"] == sources.get(row["script"]):
                settings = fingerprint(row["source"], row["settings"])
                key = row["script"], row["text_hash"], row["block_size"], settings
                groups.setdefault(key, {})[row["seed"]] = row
        return groups

    # --- What was tried on the validation set ---
    def candidates(self, step):
        """What was tried of a step: [(its settings that differ from the step's, its name)].

        A step of settings.csv that was tried varies in what its name sets, one at a time.
        """
        own, found = asdict(step.config), {}
        names = sorted((step.settings or own).keys() - NO_CANDIDATES)
        for row in self.rows_of(step):
            settings = row["settings"]
            if settings.get("validate") and own.keys() <= settings.keys():
                changed = {x: settings[x] for x in names if settings[x] != own[x]}
                name = with_settings(step.key, changed)
                if len(changed) < 2 or not step.settings:
                    if self.values(name, condition=VALIDATE):
                        found[tuple(changed.items())] = changed, name
        return [found[key] for key in sorted(found)] if () in found or not step.settings else []

    def at_rates(self, step):
        """{rate: the condition} of those candidates that differ in the learning rate alone."""
        found = {}
        for changed, _ in self.candidates(step):
            if changed.keys() <= {"learning_rate"}:
                flags = [f"--learning-rate={rate}" for rate in changed.values()]
                rate = changed.get("learning_rate", step.config.learning_rate)
                found[rate] = Condition("--validate", *flags)
        return dict(sorted(found.items()))

    # --- Elsewhere ---
    def taken(self, idea, of=LAST):
        """The change that a part makes: a step against the idea that is that step without it."""
        return self.effect(of, with_preset(idea, preset_of(of)))

    @cached_property
    def elsewhere(self):
        """{condition: {step: the change that it makes there}}."""
        validate = "--validate", "--learning-rate"
        conditions = {
            "seeds": CANONICAL,
            "splits": Condition("--split-seed", "any"),
            "English words": self.on("english.txt"),
            "German words": self.on("german.txt"),
            "n_embd 64": Condition("--n-embd", "64"),
            "half the rate": Condition(*validate, "5e-4"),
            "4 times the rate": Condition(*validate, "4e-3"),
        }
        found = {
            name: {x.key: self.effect(x.key, condition=at) for x in self.chain if x.builds_on}
            for name, at in conditions.items()
            if at
        }
        for name, of in ("in the last step", LAST), ("in fast", f"{LAST}@fast"):
            # Without what + GELU adds it is + RoPE: the chain compares that in the last step.
            parts = [x for x in WITHOUT.values() if x[0] != of]
            found[name] = {step: self.taken(idea, of) for step, _, idea in parts}
        return found

    # --- What a model costs ---
    def seconds(self, step):
        """The time of all training steps, those of its teachers included; 0 if it was not timed."""
        teachers = [with_preset(MODERN, step.preset)] * getattr(step.config, "teachers", 0)
        ms = [self.speeds.get(key, {}).get("ms_per_step", 0) for key in (step.key, *teachers)]
        return step.config.steps * sum(ms) / 1000 if all(ms) else 0

    @cached_property
    def frontier(self):
        """The n-grams, the chain, the presets, LOWEST, averages and mixtures, if timed, by loss."""
        found, ngrams = [], self.ngrams()
        for row in ngrams.values():
            cost = row["counts"], row["seconds"]
            found.append(Model(ngram_label(row), "n-gram", *cost, row["test"]))
        lowest = {script_of(name) for name in LOWEST}
        ideas = [step for step in self.steps.values() if step.script in lowest]
        for step in filter(self.runs, [*self.compared, *ideas]):
            kind = "idea" if step.is_idea else "preset" if step.preset else "step"
            (params,) = {row["params"] for row in self.runs(step).values()}
            test = self.mean(step.key).mean
            found.append(Model(step.label, kind, params, self.seconds(step), test))
        for row in self.of_now("ensemble.csv"):
            step, several, mixed = self.steps[row["step"]], row["models"] > 1, row["weight"] > 0
            if not self.seconds(step):
                continue
            label = step.label + (f", average of {row['models']}" if several else "")
            numbers, seconds = row["params"] + row["counts"], row["models"] * self.seconds(step)
            if mixed and ngrams:
                seconds += ngrams["kneser-ney"]["seconds"]
                label, kind = f"{label}, with Kneser-Ney", "mixture"
                found.append(Model(label, kind, numbers, seconds, row["test"]))
            elif several and not mixed:
                found.append(Model(label, "average", numbers, seconds, row["test"]))
        return sorted((x for x in found if x.seconds), key=lambda model: model.test)

    # --- Ideas ---
    @cached_property
    def family(self):
        """The changes that ideas make, with three seeds or more, {key: interval}."""
        ideas = [step for group in self.groups for step in self.group(group)]
        found = {step.key: self.effect(step.key) for step in ideas}
        return {key: change for key, change in found.items() if change and change.n > 2}

    @cached_property
    def surviving(self):
        """The ideas whose change is significant after Holm's correction."""
        return holm({key: change.p for key, change in self.family.items()})

    @cached_property
    def transfer(self):
        """The ideas that were run with preset 64x4, too, {key: (change, change there)}."""
        ordered = sorted(self.family.items(), key=lambda item: item[1].mean)
        both = {key: (small, self.effect(with_preset(key, "64x4"))) for key, small in ordered}
        return {key: (small, wide) for key, (small, wide) in both.items() if wide and wide.n > 2}

    def parts(self, whole, preset=""):
        """{label: change in test}: of each part, their sum, the whole, the whole beyond the sum."""

        def change(key):
            step = self.step(with_preset(key, preset) if preset else key)
            return changes(*map(self.values, (step.key, step.builds_on))) if step else {}

        found = {self.label(key): change(key) for key in PARTS[whole]}
        total, label = combine(lambda *values: sum(values), *found.values()), self.label(whole)
        found |= {f"sum of the parts of {label}": total, label: change(whole)}
        found[f"{label} beyond the sum"] = changes(change(whole), total)
        return {label: interval(values) for label, values in found.items()}

    def replication_error(self):
        """How far at most a reimplemented step of the chain is from its published figure.

        None unless all of them are recorded.
        """
        rows = [x for x in self.published.values() if x["rebuilt"] and not preset_of(x["step"])]
        found = [(self.mean(row["rebuilt"], "test_from_2nd"), row["exact"]) for row in rows]
        if not all(again for again, _ in found):
            return None
        return max((abs(again.mean - exact) for again, exact in found), default=None)
