"""Every figure of both pages, worked out a second time from the recorded tables.

    python tests/test_recompute.py

Nothing of results/ is imported: this is other code, made from what results/README.md says under
"How it is measured". For each cell, and each figure in a sentence, it has the numbers and words
that must be there, as [-0.04262, -0.10256, 0.01731, "may be zero"]. Numbers are compared as exactly
as they are printed; nan is for what is not recorded.
"""

import csv
import html
import json
import re
import sys
from collections import Counter
from functools import cache, partial
from hashlib import sha256
from math import nan, sqrt
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "README.md", ROOT / "results" / "README.md"
csv.field_size_limit(2**31 - 1)  # a curve can be long
NAMES = "0a30b5557f19"  # the hash of names.txt
SEEDS = range(100)  # no run has a higher one
NO_CHOICE = "seed", "threads", "validate", "eval_interval"  # of a candidate
NUMBER = r"[−+]?\d+(?:,\d{3})*(?:\.\d+)?"


# --- The steps and their runs ---
IDEAS = {f"train-2-{path.stem}": path for path in ROOT.glob("results/ideas/*.patch")}
LABELS, BASES = {}, {}  # by the name of a step, as train-2@64x4
for key, path in ({path.stem: path for path in ROOT.glob("train-2*.py")} | IDEAS).items():
    text = path.read_text("utf-8")
    LABELS[key] = text.removeprefix('"""').partition(":")[0]
    BASES[key] = re.search(r'^[+ ]?BUILDS_ON = "?(.+?)"?$', text, re.M)[1]
    presets = r'^    "(\S+)": \{"label": "(.+?)", "builds_on": "(.+?)"'
    for preset, label, base in re.findall(presets, text, re.M):
        LABELS[f"{key}@{preset}"] = label
        BASES[f"{key}@{preset}"] = base
KEYS = {label: key for key, label in LABELS.items()}


@cache
def read(table):
    """The rows, oldest first, each with the key of its step and the hash of what made it."""
    path = ROOT / "results" / table
    lines = path.read_text("utf-8").split("\n") if path.exists() else []
    rows = sorted(csv.DictReader(lines), key=lambda row: row.get("finished", ""))
    for row in rows:
        row["key"] = "@".join(filter(None, [row.get("script"), row.get("preset")]))
        if "settings" in row:
            row["settings"] = json.loads(row["settings"])
            made_by = sorted(x for x in row["settings"].items() if x[0] not in ("seed", "threads"))
            row["fingerprint"] = sha256(f"{row['source']} {made_by}".encode()).hexdigest()[:12]
    return rows


REBUILT = {row["key"]: row["rebuilt"] for row in read("published/chain.csv")}


def name_of(table, row):
    """What runs that belong together are called here: the step, or what a page's table has."""
    if table == "texts.csv":
        return f"{row['script']} on {row['text']}, {int(row['params']):,} {row['block_size']}"
    if table == "tuning.csv":
        rows = reversed(read("results.csv"))
        wide = next(x["settings"] for x in rows if x["key"] == "train-2@64x4")
        chosen = [(x, row["settings"][x]) for x in sorted(row["settings"]) if x not in NO_CHOICE]
        own = (f"{x}={value}" for x, value in chosen if value != wide.get(x, value))
        return f"`{row['script']}` {' '.join(own)}"
    counts = row["data_hash"] == NAMES and row["device"].startswith("cpu")
    known = row["key"] in LABELS or row["script"] in IDEAS  # which may have presets
    if counts and known and re.fullmatch(r"(learning_rate=\S+ )?validate=True", row["overrides"]):
        return f"{row['key']} at {row['settings']['learning_rate']:g}"
    return row["key"] if counts and known and not row["overrides"] else "what does not count"


@cache
def runs():
    """{name: {seed: row}}, the oldest of each seed that was made as the newest of all seeds was.

    Of texts and candidates it is the newest of each seed.
    """
    found, sources, settings = {}, {}, {}
    for table in ("results.csv", "texts.csv", "tuning.csv"):
        for row in reversed(read(table)):
            name, source, made_by = name_of(table, row), row["source"], row["fingerprint"]
            script = re.split(" at | on ", name)[0]
            as_now = source == sources.setdefault(script, source)
            as_now = as_now and made_by == settings.setdefault(name, made_by)
            if table == "results.csv" and as_now:
                found.setdefault(name, {})[int(row["seed"])] = row
            elif as_now or table == "tuning.csv":  # a log, of earlier versions too
                found.setdefault(name, {}).setdefault(int(row["seed"]), row)
    return found | {f"counting, context {row['context']}": {0: row} for row in read("ngram.csv")}


def values(name, loss="test"):
    """A column, or the difference of two as in test-train, by seed; nan where there is no run."""
    first, *second = loss.split("-")
    rows = runs().get(name, {})
    found = np.array([float(rows[seed][first]) if seed in rows else nan for seed in SEEDS])
    return found - values(name, second[0]) if second else found


def base_of(key):
    """What a step builds on; the preset of an idea, on that preset; at a rate, at that rate."""
    script, preset, rate = re.fullmatch(r"(.*?)(@\S+)?( at \S+)?", key).groups("")
    return (BASES.get(script + preset) or BASES.get(script, "") + preset) + rate


def changes(key, loss="test", of=None):
    return values(key, loss) - values(of or base_of(key), loss)


def last(name, column):
    """A column or setting of the highest seed, for what all seeds have."""
    row = max(runs().get(name, {-1: {}}).items())[1]
    return row.get(column, row.get("settings", {}).get(column, nan))


def noted(key, column, table="published/chain.csv"):
    """The sum of a column of another table, of the rows that are of the step as it is now."""
    now = last(key, "fingerprint")
    rows = [row for row in read(table) if row["key"] == key]
    found = [row[column] for row in rows if now in (nan, row.get("fingerprint", now))]
    return sum(float(x or nan) for x in found) if found else nan


def rebuilt(key):
    """From the 2nd letter on, the idea that reimplements a published step."""
    return values(REBUILT.get(key), "test_from_2nd")


def away(key):
    return estimate(rebuilt(key))[0] - noted(key, "exact")


def time(key, loss=None):
    """The training time, or that to where the mean of the curves is first as low as a loss."""
    steps = last(key, "steps")
    if loss is not None:
        curves = np.array([json.loads(row["curve"]) for row in runs().get(key, {}).values()])
        if not len(curves):
            return nan
        reached = np.flatnonzero(curves[:, :, 2].mean(axis=0) <= loss)
        steps = curves[0, reached[0], 0]
    return float(steps) * noted(key, "ms_per_step", "speed.csv")


def size(part, key):
    """A row of the table of parameters; the embedding, q, k and v have no biases."""
    n, heads, layers = (float(last(key, x)) for x in ("n_embd", "n_head", "n_layer"))
    sizes = {"n_embd": n, "heads": heads, "head_size": n / heads, "layers": layers}
    sizes |= {"token embedding": 28 * n, "lm_head": 28 * n + 28, "LayerNorm": layers * 4 * n}
    sizes |= {"attention": layers * (4 * n * n + n), "MLP": layers * (8 * n * n + 5 * n)}
    return sizes.get(part, float(last(key, "params")))


# --- The statistics ---
@cache
def student(df):
    """Distances from zero, and which share of Student's distribution is nearer."""
    t = np.sinh(np.linspace(0, 25, 1_000_001))
    density = (1 + t * t / df) ** (-(df + 1) / 2)
    nearer = np.cumsum(np.diff(t) * (density[1:] + density[:-1]))
    return t, np.concatenate([[0], nearer]) / nearer[-1]


def estimate(found):
    """Mean, standard deviation, interval and p-value; a single value has but a mean."""
    found = found[np.isfinite(found)]
    if len(found) < 2:
        return [*found, nan][:1] + [nan] * 4
    mean, deviation = np.mean(found), np.std(found, ddof=1)
    error = deviation / sqrt(len(found))
    t, nearer = student(len(found) - 1)
    half = np.interp(0.95, nearer, t) * error
    p = 1 - np.interp(abs(mean) / max(error, 1e-9), t, nearer)
    return [mean, deviation, mean - half, mean + half, p]


def in_words(found, alone="one seed"):
    mean, _, low, high, _ = estimate(found)
    words = [alone] if np.isfinite(found).sum() == 1 else []
    return [mean, low, high, *words] + (["may be zero"] if low <= 0 <= high else [])


@cache
def family():
    """Of all ideas with three seeds or more, {key: changes} and {key: does it survive Holm}."""
    found = {key: changes(key) for key in IDEAS if np.isfinite(changes(key)).sum() > 2}
    order = sorted(found, key=lambda key: estimate(found[key])[-1])
    fails = [estimate(found[key])[-1] > 0.05 / (len(order) - i) for i, key in enumerate(order)]
    return found, {key: "no" if any(fails[: i + 1]) else "yes" for i, key in enumerate(order)}


def at_two_sizes():
    """(its mean, whether its interval excludes zero) twice: at the defaults, and with 64x4."""
    pairs = [(found, changes(f"{key}@64x4")) for key, found in family()[0].items()]
    pairs = [pair for pair in pairs if np.isfinite(pair[1]).sum() > 2]
    return [[(in_words(x)[0], len(in_words(x)) == 3) for x in pair] for pair in pairs]


# --- What must be in sentences, by the kind of the marker, and in cells, by what is above them ---
HOLM = {"yes": "survives Holm", "no": "does not survive Holm"}
FIGURES = {
    "effect": lambda x, loss, of=None: in_words(changes(x, loss, of)),
    "beyond": lambda x, loss, *parts: in_words(
        changes(x, loss) - sum(changes(part, loss) for part in parts)
    ),
    "at-rate": lambda x, at, of="": in_words(changes(f"{x} at {at}", of=of and f"{of} at {at}")),
    "mean": lambda x, loss: in_words(values(x, loss)),
    "each": lambda x, loss: list(values(x, loss)),
    "published": noted,
    "published-effect": lambda x, column: noted(x, column) - noted(base_of(x), column),
    "time-share": lambda x, of: time(x) / time(of),
    "time-to": lambda x, of: time(x) / time(of, estimate(values(x))[0]),
    "probability": lambda x, loss: np.exp(-estimate(values(x, loss))[0]),
    "new-names": lambda x: noted(x, "new", "generated.csv") / noted(x, "names", "generated.csv"),
    "counted": lambda x, loss: [float(row[loss]) for row in read("ngram.csv") if row["model"] == x],
    "family": lambda what: {
        "measured": len(family()[0]),
        "by-chance": 0.05 * len(family()[0]),
        "surviving": list(family()[1].values()).count("yes"),
        "not-told-from-zero": sum("may be zero" in in_words(x) for x in family()[0].values()),
    }[what],
    "two-sizes": lambda what: sum(
        {
            "measured": True,
            "told": here,
            "same-side": here and a * b > 0,
            "kept": here and there and a * b > 0,
            "turned": here and there and a * b < 0,
            "new": there and not here,
        }[what]
        for (a, here), (b, there) in at_two_sizes()
    ),
    "holm": lambda x: HOLM.get(family()[1].get(x), nan),
    "rebuilt": lambda: np.max([abs(away(x)) for x in REBUILT if REBUILT[x] and "@" not in x]),
}
CELLS = {
    "parameters": lambda x: float(last(x, "params")),
    "seeds": lambda x: nan if x.startswith("counting") else len(runs().get(x, {})),
    "published": lambda x: noted(x, "test"),
    "change in test": lambda x: in_words(changes(x), alone=""),
    "over names": lambda x: noted(x, "error", "over-names.csv"),
    "cost of a training step": lambda x: noted(x, "ratio", "speed.csv"),
    "names seen": lambda x: float(last(x, "steps")) * last(x, "batch_size"),
    "published, exact": lambda x: noted(x, "exact"),
    "rebuilt": lambda x: in_words(rebuilt(x)),
    "rebuilt against published": away,
    "builds on": lambda x: LABELS.get(base_of(x), "a known step"),
    "ideas: change in test": lambda x: in_words(changes(x)),
    "transfer: change in test": lambda x: in_words(changes(x)),
    "change at 64x4": lambda x: in_words(changes(f"{x}@64x4")),
    "survives Holm": lambda x: family()[1].get(x, nan),
    "learning rate": lambda x: last(x, "learning_rate"),
    "change at the same rate": lambda x: estimate(changes(x))[:1],
    "block": lambda x: float(last(x, "block_size")),
    "steps": lambda x: last(x, "steps"),
    "held-out loss": lambda x: estimate(values(x, "loss"))[:2],
    "by random windows": lambda x: estimate(values(x, "random_windows"))[:2],
    "texts: published": lambda x: [
        float(row["loss"])
        for row in read("published/texts.csv")
        if all(row[y] == str(last(x, y)) for y in ("text_hash", "block_size", "n_layer", "n_embd"))
    ],
    "architecture": lambda x: size(*x.split(" of ")),
    "rates": lambda x: estimate(values(x))[:1] + in_words(changes(x)),
}
LOSSES = {"train": "train", "test": "test", "validation": "test", "from 2nd": "test_from_2nd"}
for head, loss in (LOSSES | {"ours": "test_from_2nd", "unseen": "test_unseen"}).items():
    CELLS[head] = lambda x, loss=loss: estimate(values(x, loss))[:1]
    CELLS[f"losses: {head}"] = lambda x, loss=loss: estimate(values(x, loss))[:2]
TABLES = ["comparison", "losses", "ideas", "transfer", "replication", "rates", "tried", "tuning"]
TABLES += ["texts", "architecture"]


# --- The comparison ---
def table(kind, text):
    """(where, what the page has, what must be there) for every cell of the tables in a text."""
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.M):
        heads, _, *rows = (line[2:-2].split(" | ") for line in lines.splitlines())
        for first, *cells in rows:
            label = re.sub(r"^\[|\]\(.*|\*", "", first)
            key = KEYS.get(label, label)
            against = f"<br>vs {LABELS.get(base_of(key))}"
            for head, cell in zip(heads[1:], cells, strict=True):
                names = {"tried": f"{key} at {cells[0]}", "texts": f"{key}, {' '.join(cells[:2])}"}
                names |= {"rates": f"{key} at {head}", "architecture": f"{key} of {head[1:-1]}"}
                known = [x for x in (f"{kind}: {head}", head, kind) if x in CELLS]
                must = CELLS[known[0]](names.get(kind, key)) if known else "a known column"
                yield f", {first}, {head}", cell.removesuffix(against), must


def checks(marker, text):
    """The same for all that stands in a marker."""
    kind, *words = marker.split()
    if kind in FIGURES:
        words = [x for x in words if not re.match("zero|[<>]", x)]
        yield "", text, FIGURES[kind](*words)
    elif kind == "runs":
        steps = [name for name in runs() if re.fullmatch("[^ `]+", name)]
        yield "", text.split(" runs:")[0].strip(), sum(len(runs()[x]) for x in steps)
    elif kind == "chain":
        for block in text.split("<summary><b>")[1:]:
            label = html.unescape(block.split("</b>")[0])
            key = KEYS.get(label, label)
            for effect in re.findall(r"^Change in test (against .*)\.$", block, re.M):
                against = f"against {LABELS.get(base_of(key))}:"
                yield f", {label}", effect, [against, *in_words(changes(key))]
    elif kind in TABLES:
        yield from table(kind, text)
    elif kind != "samples":
        yield "", kind, "a known kind of marker"


def agree(text, must):
    """Whether a text has these words and numbers and no others, the numbers as it rounds them."""
    if not must:
        return text in ("–", "(not recorded)", "not run yet")
    for word in [x for x in must if isinstance(x, str)]:
        if word not in text:
            return False
        text = text.replace(word, "", 1)
    numbers = [x for x in must if not isinstance(x, str)]
    printed = re.findall(NUMBER, text)
    if len(printed) != len(numbers) or re.sub(f"{NUMBER}|<br>| to |[ ,±%()*]", "", text):
        return False
    scale = 100 if "%" in text else 1
    found = [float(x.replace(",", "").replace("−", "-")) for x in printed]
    units = [0.1 ** len(x.partition(".")[2]) for x in printed]
    return bool(np.all(np.abs(found - np.multiply(numbers, scale)) < np.multiply(units, 0.500001)))


def recompute(edit=lambda text: text):
    """{kind of marker: how many numbers were compared}, and a line for all that is wrong."""
    counts, wrong = Counter(), []
    for page in PAGES:
        text = edit(page.read_text("utf-8"))
        for match in re.finditer(r"<!-- ([^\n]*?) -->(.*?)<!-- end -->", text, re.DOTALL):
            place = f"{page}, line {text.count(chr(10), 0, match.start()) + 1}, {match[1]}"
            for where, found, must in checks(match[1], match[2]):
                must = [x for x in (must if isinstance(must, list) else [must]) if x == x]  # no nan
                counts[match[1].split()[0]] += sum(not isinstance(x, str) for x in must)
                if not agree(found, must):
                    should = " ".join(map(str, must)) or "not recorded"
                    wrong.append(f"{place}{where}: it is {found}, and should be {should}")
    return counts, wrong


def test_every_figure_is_what_the_tables_give():
    _, wrong = recompute()
    assert not wrong, "\n".join(wrong)


def test_another_digit_is_reported():
    """On each page in the first figure of a sentence, and in the first cell that has one."""
    for figure in (r"(?<= -->)\d", r"(?<= \| )\d"):
        _, wrong = recompute(partial(re.sub, figure, "9", count=1))
        assert len(set(wrong) - set(recompute()[1])) == len(PAGES)


if __name__ == "__main__":
    counts, wrong = recompute()
    print(f"{sum(counts.values())} numbers compared:", dict(counts))
    sys.exit("\n".join(wrong) or None)
