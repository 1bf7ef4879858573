"""Every figure of both pages, worked out a second time from the recorded tables.

    python tests/test_recompute.py

Nothing of results/ is imported: this is other code, made from what results/README.md says of how it
is measured. For each cell, and each figure in a sentence, it has the numbers and words that must be
there, as [-0.04262, 0.05994, "n.s."]. Numbers are compared as exactly as they are printed; nan is
for what is not recorded.
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
NGRAMS = {"bigram": "bigram (add-one)", "kneser-ney": "Kneser-Ney 6-gram"}
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


PARTS = {
    "train-2-modern": ["token-shift", "swiglu", "rmsnorm", "final-layernorm"],
    "train-2@best": ["final-rate", "final-to-zero", "final-dropout", "final-decay"],
}
GROUPS = {
    key: re.search("^Group: (.*)$", x.read_text("utf-8"), re.M)[1] for key, x in IDEAS.items()
}
REBUILT = {row["key"]: row["rebuilt"] for row in read("published/chain.csv")}


def name_of(table, row):
    """What runs that belong together are called here: the step, or what a page's table has."""
    if table == "texts.csv":
        return f"{row['script']} on {row['text']}, {int(row['params']):,} {row['block_size']}"
    counts = row["data_hash"] == NAMES and row["device"].startswith("cpu")
    known = row["key"] in LABELS or row["script"] in IDEAS  # which may have presets
    if counts and known and re.fullmatch(r"(learning_rate=\S+ )?validate=True", row["overrides"]):
        return f"{row['key']} at {row['settings']['learning_rate']:g}"
    return row["key"] if counts and known and not row["overrides"] else "what does not count"


@cache
def runs():
    """{name: {seed: row}}, the oldest of each seed that was made as the newest of all seeds was.

    Of texts it is the newest of each seed.
    """
    found, sources, settings = {}, {}, {}
    for table in ("results.csv", "texts.csv"):
        for row in reversed(read(table)):
            name, source, made_by = name_of(table, row), row["source"], row["fingerprint"]
            script = re.split(" at | on ", name)[0]
            as_now = source == sources.setdefault(script, source)
            as_now = as_now and made_by == settings.setdefault(name, made_by)
            if table == "results.csv" and as_now:
                found.setdefault(name, {})[int(row["seed"])] = row
            elif as_now:
                found.setdefault(name, {}).setdefault(int(row["seed"]), row)
    ngrams = {row["model"].lower(): dict.fromkeys(SEEDS, row) for row in read("ngram.csv")}
    return found | ngrams | {NGRAMS[name]: {0: rows[0]} for name, rows in ngrams.items()}


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


def time(key):
    return float(last(key, "steps")) * noted(key, "ms_per_step", "speed.csv")


def beyond(key, size=""):
    """The changes of the parts of something, and their sum."""
    found = [changes(f"train-2-{part}{size}") for part in PARTS[key]]
    return found, sum(found)


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


def plus_minus(found):
    """The mean and half its interval, or a single value."""
    mean, _, low, high, _ = estimate(found)
    return [mean, (high - low) / 2, *(["one seed"] if np.isfinite(found).sum() == 1 else [])]


def in_words(found):
    """The same of a change in a cell, where it says whether that is significant."""
    _, _, low, high, _ = estimate(found)
    return plus_minus(found) + (["n.s."] if low <= 0 <= high else [])


@cache
def family():
    """Of ideas with three seeds or more, {key: changes} and {key: is it significant by Holm}."""
    ideas = [key for key in IDEAS if GROUPS[key] not in ("controls", "as published")]
    found = {key: changes(key) for key in ideas if np.isfinite(changes(key)).sum() > 2}
    order = sorted(found, key=lambda key: estimate(found[key])[-1])
    fails = [estimate(found[key])[-1] > 0.05 / (len(order) - i) for i, key in enumerate(order)]
    return found, {key: "no" if any(fails[: i + 1]) else "yes" for i, key in enumerate(order)}


def at_two_sizes():
    """(its mean, whether its interval excludes zero) twice: at the defaults, and with 64x4."""
    pairs = [(found, changes(f"{key}@64x4")) for key, found in family()[0].items()]
    pairs = [pair for pair in pairs if np.isfinite(pair[1]).sum() > 2]
    return [[(in_words(x)[0], len(in_words(x)) == 2) for x in pair] for pair in pairs]


# --- What must be in sentences, by the kind of the marker, and in cells, by what is above them ---
def transferred(sign):
    pairs = at_two_sizes()
    return sum(sure and there and a * b * sign > 0 for (a, sure), (b, there) in pairs)


def single(name, loss):
    """An n-gram model has one value of each loss, without an interval."""
    return plus_minus(values(name, loss)) if name not in NGRAMS else [values(name, loss)[0]]


COUNTS = {
    "runs": lambda: sum(len(runs()[x]) for x in runs() if x in LABELS or x.split("@")[0] in IDEAS),
    "ideas": lambda: len(family()[0]),
    "ideas-significant": lambda: sum("n.s." not in in_words(x) for x in family()[0].values()),
    "ideas-holm": lambda: list(family()[1].values()).count("yes"),
    "ideas-by-chance": lambda: 0.05 * len(family()[0]),
    "controls": lambda: list(GROUPS.values()).count("controls"),
    "replications": lambda: list(GROUPS.values()).count("as published"),
    "transfer-measured": lambda: len(at_two_sizes()),
    "transfer-significant": lambda: sum(sure for (_, sure), _ in at_two_sizes()),
    "transfer-kept": lambda: transferred(1),
    "transfer-turned": lambda: transferred(-1),
    "replication-error": lambda: np.max(
        [abs(away(x)) for x in REBUILT if REBUILT[x] and "@" not in x]
    ),
    "new-names": lambda x: noted(x, "new", "generated.csv") / noted(x, "names", "generated.csv"),
    "probability": lambda x: np.exp(-estimate(values(x))[0]),
    "time": lambda x, of: time(x) / time(of),
}
FIGURES = {
    "effect": lambda a, b, loss="test": plus_minus(changes(a, loss, b)),
    "mean": lambda x, loss="test": single(x, loss),
    "count": lambda what: [COUNTS[what.split(":")[0]](*what.split(":")[1:])],
}
CELLS = {
    "width": lambda x: last(x, "n_embd"),
    "heads": lambda x: nan if x in NGRAMS.values() else last(x, "settings").get("n_head", 1),
    "layers": lambda x: nan if x in NGRAMS.values() else last(x, "settings").get("n_layer", 1),
    "parameters": lambda x: float(last(x, "params")),
    "seeds": lambda x: nan if x in NGRAMS.values() else len(runs().get(x, {})),
    "test-sampling error": lambda x: noted(x, "error", "over-names.csv"),
    "relative step time": lambda x: noted(x, "ratio", "speed.csv"),
    "published train/test": lambda x: [noted(x, "train"), noted(x, "test")],
    "published, full test set": lambda x: noted(x, "exact"),
    "reimplemented": lambda x: plus_minus(rebuilt(x)),
    "ours": lambda x: plus_minus(values(x, "test_from_2nd")),
    "change as published, full test set": lambda x: noted(x, "exact") - noted(base_of(x), "exact"),
    "change reimplemented": lambda x: in_words(rebuilt(x) - rebuilt(base_of(x))),
    "change here": lambda x: in_words(changes(x, "test_from_2nd")),
    "builds on": lambda x: LABELS.get(base_of(x), "a known step"),
    "against": lambda x: LABELS.get(base_of(x), "a known step"),
    "change at + GELU": lambda x: in_words(changes(x)),
    "change at 64x4": lambda x: in_words(changes(f"{x}@64x4")) if "@" not in x else nan,
    "Holm": lambda x: family()[1].get(x, nan),
    "difference": lambda x: in_words(values(x, "test_unseen-test")),
    "learning rate": lambda x: last(x, "learning_rate"),
    "block": lambda x: float(last(x, "block_size")),
    "steps": lambda x: last(x, "steps"),
    "held-out loss": lambda x: estimate(values(x, "loss"))[:2],
    "by random windows": lambda x: estimate(values(x, "random_windows"))[:2],
    "published": lambda x: [
        float(row["loss"])
        for row in read("published/texts.csv")
        if all(row[y] == str(last(x, y)) for y in ("text_hash", "block_size", "n_layer", "n_embd"))
    ],
    "architecture": lambda x: size(*x.split(" of ")),
    "rates": lambda x: estimate(values(x))[:1] + in_words(changes(x)),
}
for head in "change in test", "change", "change at the same rate":
    CELLS[head] = lambda x: in_words(changes(x))
LOSSES = {"train": "train", "test": "test", "validation": "test", "from 2nd": "test_from_2nd"}
for head, loss in (LOSSES | {"unseen": "test_unseen"}).items():
    CELLS[head] = lambda x, loss=loss: estimate(values(x, loss))[:1]
    CELLS[f"losses: {head}"] = lambda x, loss=loss: estimate(values(x, loss))[:2]
TABLES = ["comparison", "losses", "published", "group", "rates", "recipes", "unseen", "transfer"]
TABLES += ["tried", "parts", "texts", "architecture"]


def part(label, head):
    """What must be in a cell of the table of parts, whose last rows are no steps."""
    size = "@64x4" if head.endswith("64x4") else ""
    whole = re.sub("^sum of the parts of | beyond the sum$", "", label)
    key = KEYS[whole]
    if size and (key == "train-2@best" or key.startswith("train-2-final-") and "layer" not in key):
        return nan
    if label == whole:
        return in_words(changes(key + size))
    _, total = beyond(key, size)
    return in_words(total if label.startswith("sum") else changes(key + size) - total)


# --- The comparison ---
def table(kind, text):
    """(where, what the page has, what must be there) for every cell of the tables in a text."""
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.M):
        heads, _, *rows = (line[2:-2].split(" | ") for line in lines.splitlines())
        for first, *cells in rows:
            label = re.sub(r"^\[|\]\(.*", "", first)
            key = KEYS.get(label, label)
            against = f"<br>vs {LABELS.get(base_of(key))}" if key in LABELS else ""
            for head, cell in zip(heads[1:], cells, strict=True):
                names = {"tried": f"{key} at {cells[0]}", "texts": f"{key}, {' '.join(cells[:2])}"}
                names |= {"rates": f"{key} at {head}", "architecture": f"{key} of {head[1:-1]}"}
                known = [x for x in (f"{kind}: {head}", head, kind) if x in CELLS]
                if kind == "parts":
                    must = part(label, head)
                else:
                    must = CELLS[known[0]](names.get(kind, key)) if known else "a known column"
                yield f", {first}, {head}", cell.removesuffix(against), must


def holds(claim, found):
    """Whether the whole interval is so; a number without an interval is its own."""
    low, high = found[0] - sum(found[1:2]), found[0] + sum(found[1:2])
    if claim == "n.s.":
        return low <= 0 <= high
    return high < float(claim[1:]) if claim[0] == "<" else low > float(claim[1:])


def checks(marker, text):
    """The same for all that stands in a marker."""
    kind, *words = marker.split()
    if kind in FIGURES:
        claim = words.pop() if re.match(r"n\.s\.|[<>]", words[-1]) else None
        found = FIGURES[kind](*words)
        yield "", text, found
        if claim and not np.isnan(found[0]) and not holds(claim, found):
            yield "", text, f"something that is {claim}"
    elif kind == "runs":
        yield "", text.split(" runs:")[0].strip(), COUNTS["runs"]()
    elif kind == "chain":
        for block in text.split("<summary><b>")[1:]:
            label = html.unescape(block.split("</b>")[0])
            key = KEYS.get(label, label)
            for effect in re.findall(r"^Change in test (against .*)\.$", block, re.M):
                against = f"against {LABELS.get(base_of(key))}:"
                yield f", {label}", effect, [against, *plus_minus(changes(key))]
    elif kind in TABLES:
        yield from table(kind, text)
    elif kind != "samples":
        yield "", kind, "a known kind of marker"


def agree(text, must):
    """Whether a text has these words and numbers and no others, the numbers as it rounds them."""
    if not must:
        return text in ("–", "(not recorded)")
    for word in [x for x in must if isinstance(x, str)]:
        if word not in text:
            return False
        text = text.replace(word, "", 1)
    numbers = [x for x in must if not isinstance(x, str)]
    printed = re.findall(NUMBER, text)
    if len(printed) != len(numbers) or re.sub(f"{NUMBER}|<br>|[ ,±%()/]", "", text):
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
