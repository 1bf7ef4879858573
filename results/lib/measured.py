"""All that is computed from the steps and the tables; it prints nothing.

A *name* is that of a step, or of an n-gram model: `bigram` or `kneser-ney`.
"""

import math
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property

from lib.command import ROOT, Failure
from lib.known import (
    CHOSEN,
    CONTROLS,
    LAST,
    LONG,
    NO_CANDIDATES,
    NORMS,
    PARTS,
    RECIPE,
    REPLICATIONS,
    TUNED,
    WITHOUT,
)
from lib.names import preset_of, script_of, with_preset, with_settings
from lib.scripts import fingerprint
from lib.stats import Family, changes, combine, interval, unpaired
from lib.steps import find, find_steps, like, untuned
from lib.tables import (
    CANONICAL,
    Condition,
    counting,
    left_out,
    read_results,
    read_table,
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


class Tables(dict):
    """The small tables by name, each read when it is first asked for."""

    def __init__(self, root):
        super().__init__()
        self.root = root

    def __missing__(self, name):
        self[name] = read_table(self.root, name)
        return self[name]


class Measured:
    """The steps of a folder with what is recorded and published of them.

    With names only the steps are here that these call. Everything is under the condition, unless a
    function is given another one.
    """

    def __init__(self, root=ROOT, names=None, condition=CANONICAL, results=None):
        self.root, self.condition, self.by_name = root, condition, {}
        steps = [name for name in names or () if name not in NGRAMS]
        self.steps = find_steps(root, None if names is None else steps or [LAST])
        self.read_runs(results or root / "results")
        self.tables = Tables(root)

    def read_runs(self, results):
        """Read results.csv, which may have new rows since."""
        self.found, self.of_script = {}, {}
        self.rows = read_results(results / "results.csv")
        for row in self.rows:
            self.of_script.setdefault((row["script"], row["preset"]), []).append(row)

    # --- Steps ---
    @property
    def compared(self):
        """The chain and the presets that have runs, in the order of the tables."""
        own = [x for x in self.steps.values() if not (x.is_idea or x.is_own)]
        return [step for step in own if not step.preset or self.runs(step)]

    @property
    def chain(self):
        return [step for step in self.compared if not step.preset]

    def group(self, name):
        """The ideas, controls or replications of a group, by their change in test."""
        found = [x for x in self.steps.values() if x.group == name and not x.is_preset]
        return sorted(found, key=lambda x: getattr(self.effect(x.key), "mean", math.inf))

    @property
    def groups(self):
        """The groups of ideas, without controls, replications and tuned steps."""
        groups = {step.group for step in self.steps.values() if step.is_idea}
        return sorted(groups - {CONTROLS, REPLICATIONS, TUNED})

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
        if script in self.steps or not self.steps.made.patch(script):
            raise Failure(
                f"there is no step, idea or n-gram model {name!r}{like(self.steps, name)}"
            )
        return name

    def label(self, name):
        step = self.step(name)
        return step.label if step else name

    # --- Losses ---
    def runs(self, step, condition=None):
        """The rows that count, {seed, or (split, seed): row}."""
        condition = condition or self.condition
        key = step.key, condition.flags, condition.data_hash
        if key not in self.found:
            self.found[key] = {}
            with suppress(Failure):  # of a step that does not take the flags there are none
                self.found[key] = counting(self.rows_of(step), step, condition)
        return self.found[key]

    def settings(self, step):
        """All settings of a step under the condition."""
        return self.condition.parse(step)[0]

    @property
    def canonical(self):
        """The rows on which the pages rest."""
        return [
            x for step in self.steps.values() if not step.is_own for x in self.runs(step).values()
        ]

    def rows_of(self, step):
        """The rows of the step's script and preset, whether they count or not."""
        return self.of_script.get((step.script, step.preset), [])

    def todays_rows(self, step):
        """Those that were made by the script as it is now."""
        return [row for row in self.rows_of(step) if row["source"] == step.source]

    def others(self):
        """The rows that count nowhere, with `why`."""
        return left_out(self.rows, self.steps)

    def values(self, name, loss="test", condition=None, beside=None):
        """A loss, or the difference of two (test-train), {seed: value}; of an n-gram model a float.

        `lowest` is the lowest test loss of the learning curve. Where the split is left open, the
        values are means over the seeds of each split, {split: value}. An n-gram model is the one
        that was counted on the names of `beside`, the step that it is compared with.
        """
        condition = condition or self.condition
        first, _, second = loss.partition("-")
        if second:
            both = (self.values(name, part, condition, beside) for part in (first, second))
            return changes(*both)
        if name in NGRAMS:
            found = self.ngrams(condition, beside).get(name, {}).get(loss)
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

    def mean(self, name, loss="test", condition=None):
        """The interval of the mean, over the seeds of the change beside it; None without runs."""
        step = None if condition or "-" in loss or name in NGRAMS else self.step(name)
        return interval(
            self.beside_change(step, loss) if step else self.values(name, loss, condition)
        )

    def pairing(self, name, base):
        """How two are compared: paired, unpaired, or None where their test sets differ.

        Where the split is left open they are paired by split, whatever batches they draw.
        """
        a, b = self.step(name), self.step(base)
        if not (a and b) or a.batches == b.batches:
            return "paired"
        if a.test_set != b.test_set:
            return None
        return "paired" if self.condition.by_split else "unpaired"

    def effect(self, name, base=None, loss="test", condition=None):
        """The interval of the change from the base, or from what the step builds on.

        It is paired by seed where both draw the same batches. None where there is no change: runs
        are lacking, or the two have different test sets.
        """
        base = base or getattr(self.step(name), "builds_on", None)
        how = self.pairing(name, base) if base else None
        if how is None:
            return None
        values = self.values(name, loss, condition, beside=self.step(base))
        of_base = self.values(base, loss, condition, beside=self.step(name))
        if how == "unpaired" and not (condition and condition.by_split):
            return unpaired(values, of_base)
        return interval(changes(values, of_base))

    def beside_change(self, step, loss="test"):
        """The values of a loss for the seeds that the step's change is over; all where it has none.

        So a mean is over the same seeds as the change beside it.
        """
        values, base = self.values(step.key, loss), step.builds_on
        if base and self.pairing(step.key, base) == "paired":
            common = values.keys() & self.values(base, loss).keys()
            return {seed: values[seed] for seed in sorted(common)} or values
        return values

    def ngrams(self, condition=None, step=None):
        """{name: row of ngram.csv}, counted on the names that the step has under the condition.

        Without a step they are those of the last step. None are of another split.
        """
        condition = condition or self.condition
        if condition.other_split or (step and not step.default_split):
            return {}
        of = self.counted_on(step, condition), condition.data_hash or self.names_hash
        rows = [x for x in self.tables["ngram.csv"] if (x["step"], x["data_hash"]) == of]
        found = {row["model"].lower(): row for row in rows}
        return {name: found[name] for name in NGRAMS if name in found}

    def counted_on(self, step, condition=None):
        """The step on whose names n-gram models are counted to compare with it there."""
        settings = None
        if step and (condition or self.condition).rest:
            with suppress(Failure):  # of a step that does not take the flags
                settings, _ = (condition or self.condition).parse(step)
        return step.names_of(settings) if step else LAST

    @property
    def names_hash(self):
        return next(iter(self.steps.values())).module.NAMES_SHA256[:12]

    def of_list(self, data):
        """The condition of a list by the name of its file; None where no n-grams are of it."""
        rows = self.tables["ngram.csv"]
        found = {x["data_hash"] for x in rows if (x["step"], x["data"]) == (LAST, data)}
        return Condition(data_hash=found.pop()) if len(found) == 1 else None

    @property
    def made_up(self):
        """What floor.csv has of the bundled list; None where it has nothing."""
        rows = self.tables["floor.csv"]
        return next((row for row in rows if row["data"] == "sample-names.txt"), None)

    # --- The other tables, as far as they are of the steps as they are now ---
    def current(self, file):
        now = {key: step.fingerprint for key, step in self.steps.items()}
        return [row for row in self.tables[file] if row["fingerprint"] == now.get(row["step"])]

    @cached_property
    def speeds(self):
        return {row["step"]: row for row in self.current("speed.csv")}

    def new_names(self, name):
        """The fraction of generated names that are in neither split; None where not counted."""
        rows = [row for row in self.current("generated.csv") if row["step"] == name]
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
    def tried(self, step, names, condition=VALIDATE):
        """{name: {setting: value}} of its runs that differ from it in these settings alone."""
        own, found = asdict(step.config), {}
        for row in self.todays_rows(step):
            if row["settings"].keys() >= set(names):
                values = {x: row["settings"][x] for x in names}
                changed = {x: value for x, value in values.items() if value != own[x]}
                found[with_settings(step.key, changed)] = values
        found = {x: of for x, of in found.items() if self.values(x, condition=condition)}
        return dict(sorted(found.items(), key=lambda item: [*item[1].values()]))

    def candidates(self, step):
        """What was tried of a step: [(its settings that differ from the step's, its name)].

        A step of settings.csv that was tried varies in what its name sets, one at a time.
        """
        own, found = asdict(step.config), {}
        names = sorted((step.settings or own).keys() - NO_CANDIDATES)
        for name, values in self.tried(step, names).items():
            changed = {x: value for x, value in values.items() if value != own[x]}
            if RECIPE.items() <= changed.items():
                continue  # it belongs to a comparison of rates with the tuned recipe
            if len(changed) < 2 or not step.settings:
                found[tuple(changed.items())] = changed, name
        return [found[key] for key in sorted(found)] if () in found or not step.settings else []

    # --- Under other conditions ---
    @cached_property
    def tuned_steps(self):
        """{step: the same with the tuned recipe, of settings.csv}."""
        tuned = [step for step in self.steps.values() if step.group == TUNED]
        return {untuned(self.steps, step).key: step for step in tuned}

    def tuned(self, step):
        """The step with the tuned recipe; None where settings.csv has none."""
        return self.tuned_steps.get(step.key)

    def tuned_effect(self, step):
        """The change that a step makes if it and its base have the tuned recipe."""
        tuned = step.builds_on and self.tuned(step)  # the baseline changes nothing
        return self.effect(tuned.key) if tuned else None

    def rates(self, step):
        """{rate: validation losses} of a step: of its runs that differ in the peak rate alone."""
        names = self.tried(step, ["learning_rate"])
        return {x["learning_rate"]: self.values(n, condition=VALIDATE) for n, x in names.items()}

    @cached_property
    def norms(self):
        """{layers: {kind of normalization: {rate: validation losses with the tuned recipe}}}."""

        def rates(name, layers):
            step = self.step(with_settings(name, RECIPE | {"n_layer": layers}))
            return self.rates(step) if step else {}

        found = {x: {kind: rates(name, x) for kind, name in NORMS.items()} for x in (4, 16)}
        return {layers: of for layers, of in found.items() if any(of.values())}

    def rounding(self, step):
        """{seed: (test loss, the same without vector instructions)} of a step.

        A run has none of these if ATEN_CPU_CAPABILITY is set to default: its sums are rounded in
        another order.
        """
        versions, found = {}, {}
        for row in self.rows_of(step):
            of = versions.setdefault(row["torch"], {True: [], False: []})
            of["DEFAULT" in row["device"]].append(row)
        for rows in versions.values():  # another version of PyTorch may round otherwise, too
            plain, usual = (counting(rows[x], step, self.condition) for x in (True, False))
            for seed in usual.keys() & plain.keys():
                found.setdefault(seed, (usual[seed]["test"], plain[seed]["test"]))
        return dict(sorted(found.items()))

    @cached_property
    def long_candidates(self):
        """{its CHOSEN settings: the name of what was tried}: the last step, otherwise as LONG."""
        if LONG not in self.steps:
            return {}
        last, long = self.steps[LAST], asdict(self.steps[LONG].config)
        own = {x: value for x, value in long.items() if value != getattr(last.config, x)}
        step = self.step(with_settings(LAST, {x: own[x] for x in own.keys() - {*CHOSEN}}))
        return {(*found.values(),): name for name, found in self.tried(step, CHOSEN).items()}

    def part_effect(self, idea, of=LAST):
        """The change that a part makes: a step against the idea that is that step without it."""
        return self.effect(of, with_preset(idea, preset_of(of)))

    @cached_property
    def by_condition(self):
        """{condition: {step: the change that it makes there}}."""
        conditions = {
            "seeds": CANONICAL,
            "splits": Condition("--split-seed", "any"),
            "English words": self.of_list("english.txt"),
            "German words": self.of_list("german.txt"),
            "n_embd 64": Condition("--n-embd", "64"),
        }
        found = {
            name: {x.key: self.effect(x.key, condition=at) for x in self.chain if x.builds_on}
            for name, at in conditions.items()
            if at
        }
        found["tuned recipe"] = {x.key: self.tuned_effect(x) for x in self.chain if x.builds_on}
        for name, of in ("in the last step", LAST), ("in fast", f"{LAST}@fast"):
            # Without what + GELU adds it is + RoPE: the chain compares that in the last step.
            parts = [x for x in WITHOUT.values() if x[0] != of]
            found[name] = {step: self.part_effect(idea, of) for step, _, idea in parts}
        return found

    # --- Ideas ---
    def family_of(self, effect):
        """What ideas change, with three seeds or more, by a function of an idea."""
        ideas = [step for group in self.groups for step in self.group(group)]
        found = {step.key: effect(step) for step in ideas}
        return Family({key: change for key, change in found.items() if change and change.n > 2})

    @cached_property
    def family(self):
        return self.family_of(lambda step: self.effect(step.key))

    @cached_property
    def tuned_family(self):
        """The same where an idea and what it builds on have the tuned recipe."""
        return self.family_of(self.tuned_effect)

    @cached_property
    def transfer(self):
        """The ideas that were run with preset 64x4, too, {key: (change, change there)}."""
        ordered = sorted(self.family.items(), key=lambda item: item[1].mean)
        both = {key: (small, self.effect(with_preset(key, "64x4"))) for key, small in ordered}
        return {key: (small, wide) for key, (small, wide) in both.items() if wide and wide.n > 2}

    def parts(self, whole):
        """{label: change in test}: of each part, their sum, the whole, the whole beyond the sum."""

        def change(key):
            step = self.step(key)
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
