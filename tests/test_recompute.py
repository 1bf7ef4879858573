"""The figures of the pages, worked out a second time from the rows of results.csv.

Nothing of results/ is imported: this is other code, made from what results/README.md says of how it
is measured. It checks every change and mean in a sentence, and the tables of losses and changes.
"""

import csv
import json
import re
import shutil
import subprocess
import tempfile
from functools import cache
from math import inf, sqrt
from pathlib import Path

import common
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / folder / "README.md" for folder in ("", "results", "results/ideas")]
NAMES = "0a30b5557f19"  # the hash of names.txt
csv.field_size_limit(2**31 - 1)  # a curve can be long

LABELS, BASES, SHORT = {}, {}, {}  # by the name of a step, as train-2@64x4
OWN = {}  # {script: what is its own: Batches, Test, Names}
for path in [*ROOT.glob("train-2*.py"), *ROOT.glob("results/ideas/*.patch")]:
    key, text = (
        f"train-2-{path.stem}".replace("train-2-train-2", "train-2"),
        path.read_text("utf-8"),
    )
    OWN[key] = {*re.findall("^(Batches|Test|Names): its own", text, re.M)}
    LABELS[key] = text.removeprefix('"""').partition(":")[0]
    BASES[key] = re.search(r'^[+ ]?BUILDS_ON = "?(.+?)"?$', text, re.M)[1]
    presets = r'^    "(\S+)": \{"label": "(.+?)", "builds_on": "(.+?)"'
    for preset, label, base in re.findall(presets, text, re.M):
        LABELS[f"{key}@{preset}"], BASES[f"{key}@{preset}"] = label, base
copies = {f"train-2-{path.stem}" for path in ROOT.glob("results/ideas/*.patch")}
for key in [key for key in copies if BASES[key] in copies | {"train-2"}]:
    for preset in [x.partition("@")[2] for x in BASES if x.startswith("train-2@")]:
        LABELS[f"{key}@{preset}"] = f"{LABELS[key]}, {LABELS[f'train-2@{preset}']}"
        BASES[f"{key}@{preset}"] = f"{BASES[key]}@{preset}"
with open(ROOT / "results" / "ideas" / "settings.csv", encoding="utf-8", newline="") as file:
    for row in csv.DictReader(file):
        LABELS[row["name"]], BASES[row["name"]] = row["label"], row["builds_on"]
        if row["short"]:
            SHORT[row["short"]], BASES[row["short"]] = row["name"], row["builds_on"]
KEYS = {label: key for key, label in LABELS.items()}


# --- Losses and changes ---
@cache
def table(name):
    with open(ROOT / "results" / name, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted(rows, key=lambda row: row.get("finished", ""))


@cache
def sources():
    """{script: the hash of its source today}, the scripts that patches make among them."""
    with tempfile.TemporaryDirectory() as name:
        for path in ROOT.glob("train-2*.py"):
            shutil.copy(path, name)
        left = sorted(ROOT.glob("results/ideas/*.patch"))
        while left:
            patch = left.pop(0)
            base = re.search("^copy from (.+)$", patch.read_text("utf-8"), re.M)[1]
            if Path(name, base).exists():
                subprocess.run(["git", "apply", str(patch)], cwd=name, check=True)
            else:
                left.append(patch)  # another patch makes what it copies
        return {path.stem: common.load(path).source_hash() for path in Path(name).glob("*.py")}


def runs(name, overrides="", data=NAMES):
    """{seed: row}: the oldest of each seed, of those with today's source and newest settings."""
    name, *settings = SHORT.get(name, name).split(",")
    overrides = " ".join(sorted([*overrides.split(), *settings]))
    script, _, preset = name.partition("@")
    rows = on_cpu().get((script, preset, overrides, data, sources().get(script)), [])
    rows = [row for row in rows if read(row["settings"]) == read(rows[-1]["settings"])]
    return {row["seed"]: row for row in reversed(rows)}


@cache
def on_cpu():
    """The runs on a CPU by what made them."""
    found = {}
    for row in table("results.csv"):
        if row["device"][:3] == "cpu":
            made_by = [row[x] for x in ("script", "preset", "overrides", "data_hash", "source")]
            found.setdefault((*made_by,), []).append(row)
    return found


@cache
def read(text):
    return json.loads(text) | {"seed": 0, "threads": 1}


def values(name, loss="test", *where, counted="train-2"):
    """{seed: a loss, or the difference of two as in test-train}; a single value of an n-gram.

    The n-gram models are those that were counted on the names of a script.
    """
    first, _, second = loss.partition("-")
    if second:
        return minus(values(name, first, *where), values(name, second, *where))
    if name in ("bigram", "kneser-ney"):
        rows = [row for row in table("ngram.csv") if row["model"].lower() == name]
        return next(float(x[loss]) for x in rows if (x["step"], x["data_hash"]) == (counted, NAMES))
    found = runs(name, *where)
    if loss == "lowest":
        return {seed: min(x for _, _, x in json.loads(row["curve"])) for seed, row in found.items()}
    return {seed: float(row[first]) for seed, row in found.items()}


def by_split(name):
    """{split: the mean over its seeds}."""
    found = {split: values(name, "test", f"split_seed={split}") for split in range(1, 10)}
    found[42] = values(name)
    return {split: np.mean([*losses.values()]) for split, losses in found.items() if losses}


def minus(values, base):
    if isinstance(base, float):
        return {seed: value - base for seed, value in values.items()}
    return {seed: values[seed] - base[seed] for seed in values.keys() & base.keys()}


@cache
def student(df):
    """The distance from zero within which 95% of Student's distribution lie."""
    t = np.sinh(np.linspace(0, 25, 1_000_001))
    density = (1 + t * t / df) ** (-(df + 1) / 2)
    nearer = np.cumsum(np.diff(t) * (density[1:] + density[:-1]))
    return np.interp(0.95, nearer / nearer[-1], t[1:])


def estimate(found):
    """The mean and half its 95% interval, which one value does not have."""
    if isinstance(found, float | list):
        return found if isinstance(found, list) else [found]
    values, n = [*found.values()], len(found)
    if n < 2:
        return values
    return [np.mean(values), student(n - 1) * np.std(values, ddof=1) / sqrt(n)]


# --- What must be in a sentence, and in a cell ---
def base_of(key):
    """What a step builds on; the preset of an idea, on that preset."""
    script, at, preset = key.partition("@")
    same = with_preset(BASES[script], preset) if at and "," not in key else ""
    return same if same in BASES and same != key else BASES[key]


def with_preset(name, preset):
    script, comma, settings = name.partition(",")
    return script.partition("@")[0] + f"@{preset}" + comma + settings


def change(name, *where, of=None, loss="test"):
    """Paired by seed; unpaired where one of them draws other batches; none between test sets."""
    base = of or base_of(name)
    scripts = [SHORT.get(x, x).split(",")[0].partition("@")[0] for x in (name, base)]
    words = [x for x in SHORT.get(name, name).split(",") if x.startswith("train_names=")]
    own_names = OWN.get(scripts[0], set()) - {"Batches"}
    counted = ",".join([scripts[0], *words]) if own_names else "train-2"
    both = [values(x, loss, *where, counted=counted) for x in (name, base)]
    own = set() if scripts[0] == scripts[1] else set().union(*(OWN.get(x, ()) for x in scripts))
    if "Test" in own and "kneser-ney" not in scripts:
        return {}
    unpaired = "Batches" in own and all(isinstance(x, dict) and len(x) > 1 for x in both)
    return welch(*both) if unpaired else minus(*both)


def welch(*both):
    """The change of means, and half its 95% interval, of samples that are not paired."""
    a, b = ([*found.values()] for found in both)
    one, other = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    df = (one + other) ** 2 / (one**2 / (len(a) - 1) + other**2 / (len(b) - 1))
    return [np.mean(a) - np.mean(b), student(df) * sqrt(one + other)]


def against_kneser_ney(key, data):
    rows = [row for row in table("ngram.csv") if row["data_hash"] == data]
    (ngram,) = [
        float(x["test"]) for x in rows if (x["step"], x["model"]) == ("train-2", "Kneser-Ney")
    ]
    return minus(values(key, "test", "", data), ngram)


SENTENCES = {
    "effect": lambda a, b, loss="test": change(a, of=b, loss=loss),
    "mean": lambda name, loss="test": values(name, loss),
}


TUNED, RATES = {}, {"learning_rate", "grad_clip", "lr_decay_to", "warmup_steps"}
for name in SHORT.values():
    if LABELS[name].endswith(", tuned"):
        base, *words = name.split(",")
        TUNED[",".join([base, *(x for x in words if x.partition("=")[0] not in RATES)])] = name


def tuned(key):
    """The change where a step and its base have the tuned recipe."""
    has_base = key in TUNED and BASES[key] in BASES  # the baseline has none
    return change(TUNED[key]) if has_base else {}


WITHOUT = {  # the last step without what a step adds
    "train-2-2head": "train-2,n_head=1",
    "train-2-2head-4layer": "train-2,n_layer=1",
    "train-2-2head-4layer-mlp": "train-2-without-mlp",
    "train-2-2head-4layer-mlp-ln": "train-2-no-norm",
    "train-2-2head-4layer-mlp-ln-rope": "train-2-no-positions",
    "train-2": "train-2-relu",
}
LISTS = {row["data"]: row["data_hash"] for row in table("ngram.csv")}
RECIPE = {"grad_clip": "1.0", "lr_decay_to": "0.0", "warmup_steps": "200", "validate": "True"}


def lowest_rate(key, **more):
    """The lowest mean over the seeds of the validation losses at the rates that were tried."""
    rates = {
        x: RECIPE | more | {"learning_rate": x} for x in "0.002 0.004 0.008 0.016 0.032".split()
    }
    rates["0.001"] = RECIPE | more  # the scripts' own
    words = [" ".join(f"{x}={y}" for x, y in found.items()) for found in rates.values()]
    found = [values(key, "test", x) for x in words]
    return [min(np.mean([*losses.values()]) for losses in found if losses)] if any(found) else []


def rounded(key, figure):
    """A figure of the differences from the runs without vector instructions, by seed."""
    usual = values(key)
    rows = [x for x in table("results.csv") if x["script"] == key and "DEFAULT" in x["device"]]
    rows = [x for x in rows if not x["preset"] + x["overrides"] and x["source"] == sources()[key]]
    return [figure([abs(float(x["test"]) - usual[x["seed"]]) for x in rows])]


def tried(*chosen):
    """The validation losses of the last step in 20,000 steps: by rate, dropout, weight decay."""
    found = []
    for row in table("results.csv"):
        of = read(row["settings"])
        own = [of.get(x) for x in ("learning_rate", "dropout", "weight_decay")]
        if [*map(float, chosen)] == own and of["validate"] and of["steps"] == 20_000:
            made_by = row["script"], row["source"], of["n_embd"], of["lr_decay_to"]
            if made_by == ("train-2", sources()["train-2"], 32, 0.0):
                found.append(float(row["test"]))
    return found


def of_amount(preset, data, num):
    """The test losses by seed of the settings with the lowest validation loss, and these settings.

    The runs on all names are those of the last step.
    """
    script = "train-2" if num == 25_626 else "train-2-fewer-names"
    groups = {}
    for row in table("results.csv"):
        made_by = row["script"], row["preset"], row["data"], row["source"]
        of = read(row["settings"])
        if made_by == (script, preset, data, sources()[script]) and row["device"][:3] == "cpu":
            if of.get("train_names", num) == num:
                key = json.dumps({x: of[x] for x in of if x != "validate"}, sort_keys=True)
                found = groups.setdefault(key, {}).setdefault(of["validate"], {})
                found.setdefault(row["seed"], float(row["test"]))
    if script == "train-2":
        (best,) = [x for x, of in groups.items() if len(of.get(False, ())) == 5]
    else:
        mean = {x: np.mean([*of[True].values()]) for x, of in groups.items() if True in of}
        best = min(mean, key=mean.get, default=None)
    return (groups[best].get(False, {}), json.loads(best)) if best else ({}, None)


CHANGES = {  # by the table and the column, or by the column alone
    "change in test": change,
    "transfer change at + GELU": change,
    "transfer change at 64x4": lambda key: change(with_preset(key, "64x4")),
    "robust seeds": change,
    "robust splits": lambda key: minus(by_split(key), by_split(base_of(key))),
    "robust English words": lambda key: change(key, "", LISTS["english.txt"]),
    "robust German words": lambda key: change(key, "", LISTS["german.txt"]),
    "robust n_embd 64": lambda key: change(key, "n_embd=64"),
    "robust tuned recipe": tuned,
    "tuned change in test": tuned,
    "tuned_ideas change in test": tuned,
    "tuned as published": change,
    "tuned_ideas as published": change,
    "group change, both tuned": tuned,
    "comparison change, both tuned": tuned,
    "norms 4 layers, validation": lowest_rate,
    "norms 16 layers, validation": lambda key: lowest_rate(key, n_layer="16"),
    "rounding mean difference": lambda key: rounded(key, np.mean),
    "rounding largest difference": lambda key: rounded(key, max),
    "rounding standard deviation over seeds": lambda key: [np.std([*values(key).values()], ddof=1)],
    "robust in the last step": lambda key: (
        change("train-2", of=WITHOUT.get(key, "none")) if key != "train-2" else {}
    ),
    "robust in fast": lambda key: change(
        "train-2@fast", of=with_preset(WITHOUT.get(key, "none"), "fast")
    ),
}
LOSSES = {"train": "train", "test": "test", "from 2nd": "test_from_2nd", "unseen": "test_unseen"}


def printed(text):
    """The numbers in a text, each with half a unit of its last digit, and whether it says n.s."""
    numbers = re.findall(r"[−+]?\d+\.\d+", text)
    digits = [len(x.partition(".")[2]) for x in numbers]
    found = [float(x.replace("−", "-")) for x in numbers]
    return found, [0.500001 * 0.1**n for n in digits], "n.s." in text


def agree(text, must):
    """Whether a text has these numbers and no others, as exactly as it prints them."""
    found, units, _ = printed(text)
    return len(found) == len(must) and all(
        abs(a - b) < unit for a, b, unit in zip(found, must, units, strict=True)
    )


def holds(claim, mean, half=0.0):
    if claim == "n.s.":
        return abs(mean) <= half
    return mean + half < float(claim[1:]) if claim[0] == "<" else mean - half > float(claim[1:])


def sentences(text):
    """(marker, its text, what must be there) of every change and mean in a page."""
    for kind, words, found in re.findall(r"<!-- (effect|mean) (.*?) -->(.*?)<!-- end -->", text):
        *names, claim = (
            words.split() if re.search(r"n\.s\.|[<>]", words) else [*words.split(), None]
        )
        must = estimate(SENTENCES[kind](*names))
        if claim and must and not holds(claim, *must):
            must = [inf]
        yield f"{kind} {words}", found, must


def amount_cells(data, num, floor, kneser_ney, *of_sizes):
    """The losses in a row of the table of numbers of names."""
    num = int(num.replace(",", ""))
    step = f"train-2-fewer-names,train_names={num}"
    step = {2_562: "train-2-fewer-names", 25_626: "train-2"}.get(num, step)
    rows = [x for x in table("ngram.csv") if (x["step"], x["data"]) == (step, data)]
    ngram = [float(x["test"]) for x in rows if x["model"] == "Kneser-Ney"]
    yield f"amounts, {data}, {num}, Kneser-Ney", kneser_ney, ngram
    floors = [float(x["test"]) for x in table("floor.csv") if x["data"] == data]
    yield f"amounts, {data}, {num}, lowest possible", floor, floors
    for preset, loss, chosen in ("long", *of_sizes[:2]), ("best", *of_sizes[2:]):
        losses, settings = of_amount(preset, data, num)
        yield f"amounts, {data}, {num}, {preset}", loss, estimate(losses)
        as_it_is = settings and f"{settings['steps']:,}; {settings['dropout']:g}"
        assert chosen == (as_it_is or "–")


def list_cells(data, header, found):
    """The leads of Kneser-Ney in a row of the table of lists."""
    for column, cell in zip(header, found, strict=True):
        key = KEYS[column.removesuffix(" against Kneser-Ney")]
        must = against_kneser_ney(key, LISTS[data])
        yield f"lists, {data}, {column}", cell, estimate(must)


def cells(text):
    """(where, the cell's text, what must be there) of the tables of losses and changes."""
    for kind, body in re.findall(r"<!-- (\w+)[^>]*? -->\n\n(\|.*?)\n\n<!-- end -->", text, re.S):
        head, _, *rows = (line[2:-2].split(" | ") for line in body.splitlines())
        for label, *found in rows:
            if kind == "long":
                yield f"long, {label}", found[-1], [np.mean(tried(label, *found[:2]))]
            if kind == "amounts":
                yield from amount_cells(label, *found)
            if kind == "lists":
                yield from list_cells(label, head[4:], found[3:])
            label = label.partition(": ")[2] if kind == "norms" else label
            key = KEYS.get(re.sub(r"^\[|\]\(.*", "", label))
            for column, cell in zip(head[1:], found, strict=True):
                cell = re.sub("<br>vs .*", "", cell)
                rule = CHANGES.get(f"{kind} {column}") or CHANGES.get(column)
                if rule and kind != "parts":
                    assert key or "gram" in label, f"{kind}: nothing is called {label}"
                if key and rule and BASES[key] != "None" and kind != "parts":
                    must = estimate(rule(key))
                    yield f"{kind}, {label}, {column}", cell, must
                    doubtful = len(must) == 2 and abs(must[0]) <= must[1]
                    assert doubtful == ("n.s." in cell), f"{kind}, {label}, {column}: {cell}"
                elif key and kind in ("comparison", "losses", "group") and column in LOSSES:
                    must = estimate(values(key, LOSSES[column]))
                    must = must if kind == "losses" else must[:1]
                    yield f"{kind}, {label}, {column}", cell, must


def wrong(text):
    both = [*sentences(text), *cells(text)]
    assert len(both) > 30
    return [
        f"{where}: it is {found}, not {must}"
        for where, found, must in both
        if not agree(found, must)
    ]


def test_every_figure_is_what_the_tables_give():
    for page in PAGES:
        assert wrong(page.read_text("utf-8")) == []


def test_another_digit_is_reported():
    """On each page in the first figure of a sentence, and in the first cell that has one."""
    for page in PAGES:
        for figure in (r"(?<=0 -->[−+])\d", r"(?<= \| )\d(?=\.\d{4})"):
            assert wrong(re.sub(figure, "9", page.read_text("utf-8"), count=1))
