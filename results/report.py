"""The README's blocks and the plots, made from the table of results.

Rewrite README.md and draw:  python results/report.py
Several tables as one:       python results/report.py results/results.csv elsewhere/results.csv
Change nothing, only check:  python results/report.py --check
What the README leaves out:  python results/report.py --all
"""
import ast, csv, difflib, functools, html, io, json, math, os, re, statistics, sys, urllib.parse
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
import stream
from findings import FINDINGS, LAST, LN, ROPE, sentence
from scripts import ROOT, fail, fingerprint, guarded, load, parser, say, targets_of, variants_of
from stats import effect, interval, paired, plural, signed

COLUMNS = ("script config preset overrides builds_on data data_hash seed steps n_embd head_size n_head n_layer params "
           "train test test_from_2nd test_unseen seconds ms_per_step device threads torch source finished samples "
           "settings").split()
LOSSES = ("train", "test", "test_from_2nd")
TEXTS = ("script text text_hash block_size seed params characters loss seconds device torch source finished "
         "settings").split()
PUBLISHED = ["script", "preset", "train", "test", "exact"]  # exact: of test, over the whole of the published split
WALKTHROUGH = "train-2-learned-positions.py"  # what the README shows how to make

# --- The steps: scripts, their presets and variants ---
@dataclass
class Step:
    """A script, a preset or variant of one, and the runs recorded of it."""
    key: str  # "train-2.py" or "train-2.py --preset 64x4", which is how others name it as what they build on
    path: Path
    preset: str
    label: str
    builds_on: str | None
    settings: dict
    source: str
    data_hash: str
    docstring: str
    variant: bool = False
    rows: dict = field(default_factory=dict)  # seed: row
    published: dict = field(default_factory=dict)  # train, test and exact, where there are any

    @property
    def stale(self):
        return any(row["stale"] for row in self.rows.values())

    def values(self, column):
        return [row[column] for row in self.rows.values()]

class Steps(dict):
    """Those that the README shows, by their keys."""
    folder = None  # the one that tuning.csv and generated.csv lie in

def key_of(row, overrides=True):
    """The key of the step that the row is of, where there is one."""
    streamed, preset = row["preset"] == "stream", row["preset"]
    flags = [f"--preset {preset}"] * bool(preset and not streamed)
    if overrides:
        items = (item.partition("=") for item in row.get("overrides", "").split())
        flags += [f"--{name.replace('_', '-')} {value}" for name, _, value in items]
    return " ".join(["results/stream.py"] * streamed + [row["script"], *flags])

def steps_of(path):
    """The step that a script is, and those that its presets and variants are."""
    module, steps = load(path), []
    try:
        found = targets_of(module)
        for target in found + variants_of(module):
            module, name = target.module, target.preset or ""
            preset = module.PRESETS[name] if name else {"label": module.CONFIG, "builds_on": module.BUILDS_ON}
            steps.append(Step(target.name, path, name, preset["label"], preset["builds_on"],
                              asdict(module.Config(**target.knobs)), module.source_hash(), module.SHA256[:12],
                              module.__doc__ or "", target not in found))
        return steps
    except Exception as error:  # a script in the making may raise anything
        fail(f"cannot use {path.name} ({type(error).__name__}: {error})")

def find_steps(root):
    """Every step by its key, depth-first along what they build on, the shorter branch first."""
    steps = {step.key: step for path in sorted(root.glob("train-2*.py")) for step in steps_of(path)}
    above = {None: []} | {key: [] for key in steps}
    for step in steps.values():
        if step.builds_on not in above: fail(f"{step.key} builds on {step.builds_on!r}, and there is no such step")
        above[step.builds_on].append(step.key)

    def branch(key):
        return sum(sorted(map(branch, above[key]), key=len), [key])
    order = branch(None)[1:]
    key, path = next((key for key in steps if key not in order), None), []
    while key and key not in path: path, key = path + [key], steps[key].builds_on  # not reached from any root
    if path: fail(f"what builds on what goes in a circle: {' -> '.join(path[path.index(key):] + [key])}")
    return {key: steps[key] for key in order}

# --- The tables ---
def number(text):
    value = float(text)
    if not 0 <= value < math.inf: raise ValueError(f"{text!r} is no loss or time")
    return value

def parsed(kind, text):
    value = json.loads(text)
    if not isinstance(value, kind): raise ValueError(f"{text!r} is no {kind.__name__}")
    return value

def names(text):
    value = [str(name) for name in parsed(list, text)]
    "".join(value).encode()  # JSON can hold half a character, which no file can
    return value

PARSE = {
    **dict.fromkeys("seed steps n_embd head_size n_head n_layer params threads".split(), int),
    **dict.fromkeys([*LOSSES, "seconds", "ms_per_step"], number),
    "test_unseen": lambda text: number(text) if text else None,  # blank where every test name is in the training split
    "finished": lambda text: datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ"),
    "samples": names,
    "settings": functools.partial(parsed, dict),
}

def read_csv(path, columns, parse):
    """Its rows as dictionaries. Whatever is wrong with the file ends in one line that says where."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        fail(f"cannot read {path} ({error.strerror}); name another table, or make one with a run")
    except UnicodeDecodeError as error:
        fail(f"{path}, line {error.object.count(10, 0, error.start) + 1}: not UTF-8; mend or delete the line")
    if "\0" in text: fail(f"{path}, line {text[:text.index(chr(0))].count(chr(10)) + 1}: a NUL byte; mend or delete it")
    reader, rows, line, column = csv.reader(io.StringIO(text, newline=""), strict=True), [], 1, ""
    try:
        for values in reader:
            if line == 1 and values != columns: fail(f"{path} has a foreign header; it must be {','.join(columns)}")
            if line > 1 and values:  # a blank line is no row
                if len(values) != len(columns): raise ValueError(f"{len(values)} fields, not {len(columns)}")
                row = dict(zip(columns, values))
                for column in parse: row[column] = parse[column](row[column])
                rows.append(row)
            line, column = reader.line_num + 1, ""  # a quoted field can span lines: name the one where the row starts
    except (csv.Error, ValueError, RecursionError) as error:
        fail(f"{path}, line {line}{column and ', ' + column}: {str(error)[:200]}; mend or delete the row")
    return rows

def read_tables(paths):
    """The rows of all tables, each knowing where its curve lies."""
    return [row | {"curves": path.parent / "curves"} for path in paths for row in read_csv(path, COLUMNS, PARSE)]

DISSECTED = {  # written by dissect.py
    "by-position.csv": "script preset seed source position targets loss".split(),
    "attention.csv": "script preset seed source name layer head query key weight".split(),
    "generated.csv": "script preset seed source names new".split()}

def dissected(steps, file, parse):
    """The rows that dissect.py wrote of models as they now are."""
    path = steps.folder / file
    if not path.exists(): return []
    rows = [row for row in read_csv(path, DISSECTED[file], parse) if key_of(row) in steps]
    present = {step.key: fingerprint(step.source, step.settings) for step in steps.values()}
    old = {key_of(row) for row in rows if row["source"] != present[key_of(row)]}
    if old: say(f"note: {file} is of an earlier state of {', '.join(sorted(old))}: run python results/dissect.py")
    return [row for row in rows if key_of(row) not in old]

def is_stale(row, step):
    """Was the row made by another source than the step's present one, or with other defaults?"""
    free = {"seed", "threads", *(item.partition("=")[0] for item in row["overrides"].split())}
    then, now = ({k: v for k, v in settings.items() if k not in free} for settings in (row["settings"], step.settings))
    return row["source"] != step.source or then != now

def left_out(row, steps):
    """Why the row has no part in the comparison; nothing where it has."""
    step = steps.get(key_of(row))
    if not step: return "other settings" if key_of(row, False) in steps else "no such script or preset"
    if row["data_hash"] != step.data_hash: return "other data"
    return "" if row["device"].startswith("cpu") else "other device"

def assign(rows, steps):
    """Give each step its rows, one a seed: the newest of the present source, else the newest. Return the others."""
    for row in rows:
        row["why"] = left_out(row, steps)
        step = steps.get(key_of(row)) or steps.get(key_of(row, False))
        row["stale"] = step is not None and is_stale(row, step)
    candidates = [row for row in rows if not row["why"]]
    for row in sorted(candidates, key=lambda row: (not row["stale"], row["finished"])):  # the last one stays
        steps[key_of(row)].rows[row["seed"]] = row
    for step in steps.values():
        step.rows = dict(sorted(step.rows.items()))
    counted = {id(row) for step in steps.values() for row in step.rows.values()}
    others = [row for row in rows if id(row) not in counted]
    for row in others: row["why"] = (row["why"] or "another row of this seed counts") + ", stale" * row["stale"]
    return others

def gather(tables, root):
    """The steps with what is known of each, and the rows that have no part in the comparison."""
    rows, steps = read_tables(tables), find_steps(root)
    others = assign(rows, steps)
    parse = dict.fromkeys(PUBLISHED[2:], PARSE["test_unseen"])
    for row in read_csv(root / "results" / "published.csv", PUBLISHED, parse):
        if key_of(row) in steps: steps[key_of(row)].published = row
    shown = Steps((key, step) for key, step in steps.items()
                  if not (step.preset or step.variant) or step.rows or step.published)
    shown.folder, shown.walkthrough = root / "results", walkthrough_of(rows, shown)
    labels = [step.label for step in shown.values()]
    for step in shown.values():  # a copied script may have kept its label
        if labels.count(step.label) > 1: step.label += f" ({step.path.stem})"
    return shown, others

def walkthrough_of(rows, steps):
    """The step that the README shows how to make: the script itself where it is there, else what is recorded of it."""
    if WALKTHROUGH in steps: return steps[WALKTHROUGH]
    hashes = {step.data_hash for step in steps.values()}
    rows = [row for row in rows if key_of(row) == WALKTHROUGH and row["data_hash"] in hashes]
    if not rows: return None
    last = max(rows, key=lambda row: row["finished"])
    step = Step(WALKTHROUGH, Path(WALKTHROUGH), "", last["config"], last["builds_on"], last["settings"], last["source"],
                last["data_hash"], "")
    step.rows = {row["seed"]: row for row in rows if row["source"] == step.source and row["device"].startswith("cpu")}
    return step

# --- Markdown ---
NONE = "–"

def cell(value):
    return " ".join(str(value).split()).replace("|", "\\|")

def table(header, rows):
    """Markdown; the first column is text, the others are figures."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)

def loss_cell(values):
    if not values: return NONE
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean}<br>±{statistics.stdev(values):.4f}"

def effect_cell(step, steps, above):
    """The change, its interval, and what it is against where that is not the row above."""
    change = effect(step, steps)
    if not change: return NONE
    return "<br>".join(filter(None, [
        signed(change.mean) + " †" * change.stale, change.interval, "*may be zero*" * change.may_be_zero,
        f"vs {change.base.label}" * (change.base is not above),
        f"({plural(change.seeds, 'seed')})" * (change.seeds < len(step.rows))]))

def step_row(step, steps, above):
    params, (published, exact) = step.values("params"), map(step.published.get, ("test", "exact"))
    return [f"[{step.label}]({urllib.parse.quote(step.path.name)})" + " †" * step.stale,
            f"{params[-1]:,}" if params else NONE, len(params), *(loss_cell(step.values(column)) for column in LOSSES),
            (NONE if published is None else f"{published:.2f}") + ("" if exact is None else f"<br>exact {exact:.3f}"),
            effect_cell(step, steps, above)]

def comparison_of(chosen, steps):
    header = "step,parameters,seeds,train,test,test from 2nd,published test,change in test".split(",")
    text = table(header, [step_row(step, steps, above) for step, above in zip(chosen, [None, *chosen])])
    if any(step.stale for step in chosen):
        text += "\n\n† from another version of the script or other defaults than the present ones: run it again."
    return text

def comparison(steps):
    """The steps of the chain, with what the columns mean."""
    chosen = [step for step in steps.values() if not step.preset]
    bigram = "\nThe bigram is `--n-layer 0` of 4 layers: a model that looks at one character, for reference."
    return comparison_of(chosen, steps) + """

Losses are in nats per character, exact over the whole split: the mean over the seeds, ± their standard deviation.
*Test from 2nd* leaves out the first letter of every name, which the published results never predicted: that column,
not *test*, is the one to compare with *published test*, which is of one seed, estimated on 50 batches. *Exact* is what
the published scripts give when they are evaluated over the whole of their test split.
*Change in test* is against the row above or the step named, paired by seed, with its 95% interval (Student's t) where
there are two seeds or more: it covers initialisation and batches, for this one split.
*May be zero*: not distinguishable from zero, because the interval includes it.""" + bigram * chosen[0].variant

def scaling(steps):
    """The presets that have been run or published."""
    presets = [step for step in steps.values() if step.preset and not step.variant]
    return comparison_of(presets, steps) if presets else ""

def streams(steps):
    """Training without padding, against the same step with it."""
    variants = [step for step in steps.values() if step.preset and step.variant]
    return comparison_of(variants, steps) if variants else "No run is recorded yet."

def texts(steps):
    """What text the steps were trained on by stream.py, and what is published for it."""
    parse = dict.fromkeys("block_size seed params characters".split(), int)
    parse |= {"loss": number, "settings": PARSE["settings"]}
    path, groups = steps.folder / "texts.csv", {}
    rows = read_csv(path, TEXTS, parse) if path.exists() else []
    for row in sorted(rows, key=lambda row: row["finished"]):  # the newest of a seed counts
        settings = str({name: value for name, value in row["settings"].items() if name not in ("seed", "threads")})
        key = row["script"], row["text"], row["text_hash"], row["block_size"], settings
        groups.setdefault(key, {})[row["seed"]] = row
    if not groups: return "No run is recorded yet."
    columns = "text_hash block_size n_layer n_embd loss".split()
    published = {tuple(map(row.get, columns[:4])): row["loss"]
                 for row in read_csv(steps.folder / "published-texts.csv", columns, {})}
    lines = []
    for (script, text, text_hash, block, _), rows in groups.items():
        first, path = next(iter(rows.values())), steps.folder.parent / script
        settings, source = first["settings"], path.exists() and stream.source_of(load(path))
        stale = " † (from another version of the script)" * any(row["source"] != source for row in rows.values())
        key = text_hash, *map(str, (block, settings.get("n_layer", 1), settings["n_embd"]))
        lines.append([f"{script} on {text}{stale}", f"{first['params']:,}", block, f"{settings['steps']:,}", len(rows),
                      loss_cell([row["loss"] for row in rows.values()]), published.get(key, NONE)])
    return table("model,parameters,block,steps,seeds,held-out loss,published".split(","), lines)

def tuning(steps):
    """The candidates for `fast` and `best`, chosen by what they reach on held-out training names."""
    path = steps.folder / "tuning.csv"
    if not path.exists(): return "No candidate is recorded yet."
    groups = {}
    for row in sorted(read_csv(path, COLUMNS, PARSE), key=lambda row: row["finished"]):  # the newest of a seed counts
        if row["settings"].get("validate") is not True:
            fail(f"{path} has a row without --validate: delete it, the test split is not for tuning")
        items = row["overrides"].split()
        settings = tuple(item for item in items if not item.startswith(("eval_interval", "validate")))
        groups.setdefault((row["preset"], settings), {})[row["seed"]] = row
    groups = {settings: list(rows.values()) for settings, rows in groups.items()}
    def mean(rows, column): return statistics.fmean(row[column] for row in rows)
    lines = [[f"`{' '.join(settings)}`", f"{rows[0]['steps'] * rows[0]['settings']['batch_size']:,}", len(rows),
              *(f"{mean(rows, column):.4f}" for column in LOSSES)]
             for (_, settings), rows in sorted(groups.items(), key=lambda item: mean(item[1], "test_from_2nd"))]
    presets = sorted({preset for preset, _ in groups})
    header = [f"settings, on top of {', '.join(presets)}", "names seen", "seeds", "train", "validation", "from 2nd"]
    return table(header, lines)

def architecture(steps):
    """Where the parameters of the last step and of the largest preset are."""
    step = steps.get(f"{LAST} --preset 64x4")
    if not step: return ""
    module = load(step.path)
    plain, large = module.Config(), module.Config(**step.settings)
    groups = {"token embedding": "tok_emb", "attention": ".attn.", "MLP": ".mlp.", "LayerNorm": ".ln", "head": "head."}
    def sizes(config):  # 26 letters and two tokens; no parameter depends on the longest name
        named = [(name, p.numel()) for name, p in module.Transformer(config, 28, 16).named_parameters()]
        counts = {label: sum(n for name, n in named if part in name) for label, part in groups.items()}
        return [config.n_embd, config.n_head, config.n_embd // config.n_head, config.n_layer, *counts.values(),
                sum(n for _, n in named)]
    names = ["n_embd", "heads", "head_size", "layers", *(f"parameters: {name}" for name in [*groups, "all"])]
    return table(["", f"`{step.path.name}`", "`64x4` and all after it"],
                 [[name, f"{a:,}", f"{b:,}"] for name, a, b in zip(names, sizes(plain), sizes(large))])

def walkthrough(steps):
    """What came of the step that the README shows how to make."""
    step = steps.walkthrough
    change = step and paired(step, steps.get(step.builds_on))
    if not change: return "No run is recorded yet."
    how = f"95% interval {change.interval}" if change.interval else "no interval"
    return (f"Against {change.base.label}, {step.label} change the test loss by {signed(change.mean)} ({how}"
            f"{', not distinguishable from zero' * change.may_be_zero}; {plural(change.seeds, 'seed')}): it ends at "
            f"{statistics.fmean(step.values('test')):.4f}.")

def last_recorded(steps):
    """The last step of the chain, or else the last that is recorded, and the recorded presets."""
    recorded = {key: step for key, step in steps.items() if step.rows and not step.variant}
    plain = [step for step in recorded.values() if not step.preset]
    return [recorded[LAST]] if LAST in recorded else plain[-1:], [step for step in recorded.values() if step.preset]

def samples(steps):
    """Names that the last step and the presets generated, each with its lowest seed."""
    last, presets = last_recorded(steps)
    drawn = {}  # key: the counts of each seed
    for row in dissected(steps, "generated.csv", {"names": int, "new": int}):
        drawn.setdefault(key_of(row), []).append(row)
    lines = []
    for step in last + presets:
        text = f"- **{step.label}**: {cell(', '.join(name or '(empty)' for name in step.values('samples')[0]))}"
        if rows := drawn.get(step.key):
            names, new = (sum(row[column] for row in rows) for column in ("names", "new"))
            text += f"<br>Of {names:,} drawn, {names // len(rows):,} a seed, {new / names:.1%} are new."
        lines.append(text)
    return "\n".join(lines)

def meaning(steps):
    """What the losses of the last step and the last preset mean."""
    last, presets = last_recorded(steps)
    lines = []
    for step in last + [step for step in presets if step.preset in ("final", "best")]:
        loss = statistics.fmean(step.values("test"))
        lines.append(f"- **{step.label}** (`python {step.key}`) ends at a test loss of {loss:.4f} nats per character "
                     f"({'mean of ' * (len(step.rows) > 1)}{plural(len(step.rows), 'seed')}): a perplexity of "
                     f"exp({loss:.4f}) = {math.exp(loss):.2f}, or a probability of exp(−{loss:.4f}) = "
                     f"{math.exp(-loss):.1%} for the right next character (geometric mean).")
    return "\n".join(lines)

def runs(steps):
    """What made the figures."""
    rows = [row for step in steps.values() for row in step.rows.values()]
    if not rows: return "No run is recorded yet."
    def every(column): return cell(", ".join(map(str, sorted({row[column] for row in rows}))))
    days, stale = sorted(f"{row['finished']:%Y-%m-%d}" for row in rows), sum(row["stale"] for row in rows)
    text = (f"{plural(len(rows), 'run')}: seed {every('seed')}; {every('device')}; threads: {every('threads')}; "
            f"torch {every('torch')}; finished {' to '.join(sorted({days[0], days[-1]}))}")
    return text + f"; {stale} stale" * bool(stale)

def code_lines(path):
    """The lines of a script after its docstring."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    return text.splitlines()[tree.body[0].end_lineno if ast.get_docstring(tree) else 0:]

def diff(old, new):
    """What differs outside the docstrings, a line of context around it, each hunk under the name of its section."""
    before, after = code_lines(old), code_lines(new)
    lines = []
    for hunk in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(1):
        banners = re.findall("^# --- (.*) ---$", "\n".join(after[:hunk[0][4]]), flags=re.M)
        lines.append(f"@@ {banners[-1] if banners else 'Imports'} @@")
        for kind, a, b, c, d in hunk:
            if kind == "equal": lines += [" " + line for line in before[a:b]]
            else: lines += ["-" + line for line in before[a:b]] + ["+" + line for line in after[c:d]]
    return "\n".join(line.rstrip() for line in lines)

def chain(steps):
    """One collapsed block a step: its docstring, its effect, its diff. Blank lines end the HTML around Markdown."""
    blocks = []
    for step in (step for step in steps.values() if not step.preset and not step.variant):
        lines = [line.strip() for line in step.docstring.strip().splitlines()
                 if not re.match(r"\s*(Run it|What changed|Next step):", line)] or [""]
        summary = lines[0].partition(": ")[2] or lines[0]  # it opens with the label
        parts = [f"<details>\n<summary><b>{html.escape(step.label)}</b>: {html.escape(summary)}</summary>",
                 " ".join(lines[1:]).strip()]
        change, base = effect(step, steps), steps.get(step.builds_on)
        if change:
            how = f"95% interval {change.interval}" if change.interval else "no interval"
            how += ", not distinguishable from zero" * change.may_be_zero
            parts.append(f"Change in test loss against {change.base.label}: {signed(change.mean)} nats per character "
                         f"({how}; {plural(change.seeds, 'seed')}){' †' * change.stale}.")
        if base: parts.append(f"```diff\n{diff(base.path, step.path)}\n```")
        blocks.append("\n\n".join(filter(None, [*parts, "</details>"])))
    return "\n\n".join(blocks)

BLOCKS = {block.__name__: block for block in (
    comparison, chain, scaling, streams, texts, architecture, tuning, samples, meaning, walkthrough, runs)}
BLOCKS |= {name: sentence(name) for name in FINDINGS}

def split_readme(text, name):
    """What stands before, in and after a block, the markers not being part of it."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        fail(f"the README must have the lines {begin.strip()} and {end} once each, in this order")
    before, rest = text.split(begin)
    inside, after = rest.split(end)
    return before + begin, inside, end + after

def rebuild(text, steps):
    """The README with every block anew."""
    for name in re.findall(r"<!-- (\S+):begin -->", text):
        if name not in BLOCKS: fail(f"the README has a block {name!r}; there are only {', '.join(BLOCKS)}")
    for name, block in BLOCKS.items():
        before, _, after = split_readme(text, name)
        body = block(steps)
        text = before + (f"\n{body}\n\n" if body else "") + after  # HTML comments end at a blank line for every reader
    return text

def differences(old, new):
    """For every block that differs, its first line that does: in the README, and as the table gives it."""
    for name in BLOCKS:
        before, *sides = split_readme(old, name)[:2] + split_readme(new, name)[1:2]
        lines = [side.split("\n") + [None] for side in sides]
        if lines[0] == lines[1]: continue
        at = next(i for i, pair in enumerate(zip(*lines)) if pair[0] != pair[1])
        was, is_now = ("(the block ends here)" if side[at] is None else side[at] for side in lines)
        yield f"block {name}, line {before.count(chr(10)) + at + 1}:\n  README: {was}\n  table:  {is_now}"

# --- Plots ---
def read_curve(row):
    """The points (step, test) of a run, or none where the file is missing or of another run."""
    path = row["curves"] / "-".join(filter(None, [row["script"][:-3], row["preset"], f"seed{row['seed']}.csv"]))
    try:
        curve = csv.DictReader(path.read_text("utf-8").splitlines())
        points = [(int(point["step"]), number(point["train"]), number(point["test"])) for point in curve]
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        points = []
    if points[-1:] == [(row["steps"], row["train"], row["test"])]: return [(step, test) for step, _, test in points]
    say(f"note: no curve of {key_of(row)} with seed {row['seed']}: {path} is missing or of another run")
    return []

def draw(steps, folder):
    """The plots, as bytes by path."""
    try:
        import plots  # and with it matplotlib, which --check and --all do without
    except ImportError as error:
        fail(f"no plots without matplotlib ({error}): pip install -r requirements.txt")
    chain = [step for step in steps.values() if not step.preset and not step.variant]
    large = [steps[LAST]] * (LAST in steps) + [step for step in steps.values() if step.preset and not step.variant]
    curves = {step.label: list(filter(None, map(read_curve, step.rows.values())))
              for step in chain + [step for step in large if step.preset]}
    def those_of(chosen): return {step.label: curves[step.label] for step in chosen if curves[step.label]}
    points = {step.label: (step.values("test_from_2nd"), step.published.get("test"), step.published.get("exact"))
              for step in chain}
    paces = {step.label: min(step.values("ms_per_step"), default=0) / 1000 for step in large}
    timed = {label: by_time(runs, paces[label]) for label, runs in those_of(large).items()}
    pictures = {"loss-curves.png": plots.loss_curves(those_of(chain)), "scaling.png": plots.scaling(timed),
                "ablation.png": plots.ablation(points, interval)}
    return {folder / name: picture for name, picture in (pictures | draw_dissected(steps, plots)).items()}

def draw_dissected(steps, plots):
    """The pictures of what dissect.py wrote, as far as it is of the present models."""
    pictures, lines = {}, {}  # key: {position: {seed: loss}}
    parse = dict.fromkeys(["seed", "position", "targets"], int) | {"loss": number}
    for row in dissected(steps, "by-position.csv", parse):
        if row["targets"] < 100: continue  # a handful of the longest names
        lines.setdefault(key_of(row), {}).setdefault(row["position"], {})[row["seed"]] = row["loss"]
    if {LN, ROPE} <= lines.keys():
        before, after = lines[LN], lines[ROPE]
        change = {at: {seed: after[at][seed] - before[at][seed] for seed in before[at].keys() & after[at].keys()}
                  for at in before.keys() & after.keys()}
        pictures["by-position.png"] = plots.by_position(
            {steps[key].label: points for key, points in lines.items()},
            {f"{steps[ROPE].label} against {steps[LN].label}": change})
    axes = "layer", "head", "query", "key"
    rows = dissected(steps, "attention.csv", dict.fromkeys(axes, int) | {"weight": number})
    if rows:
        weights = {tuple(map(row.get, axes)): row["weight"] for row in rows}
        pictures["attention.png"] = plots.attention(weights, rows[0]["name"], steps[key_of(rows[0])].label)
    return pictures

def by_time(curves, pace):
    """(seconds, test) at every evaluation, means over the seeds; pace in seconds a step."""
    return [(at * pace, statistics.fmean(dict(curve)[at] for curve in curves))
            for at, _ in curves[0] if at and all(at in dict(curve) for curve in curves)]

# --- Main ---
def write_whole(path, content):
    """Write beside the file, then move it into place: nobody reads half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    say(f"wrote {path}")

def print_others(rows):
    """The rows that have no part in the comparison, as aligned text."""
    columns = "script preset overrides data device seed train test test_from_2nd finished why".split()
    def text(value): return f"{value:.4f}" if isinstance(value, float) else cell(value) or NONE
    lines = [columns, *([text(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines: say("  ".join(map(str.ljust, line, widths)).rstrip())

def run(argv, root):
    ap = parser(__doc__)
    ap.add_argument("tables", metavar="TABLE", nargs="*", type=Path, help="(default: results/results.csv)")
    only = ap.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="change nothing; exit 1 where README and table differ")
    only.add_argument("--all", action="store_true", help="change nothing; print the rows that the README leaves out")
    ap.add_argument("--readme", metavar="FILE", type=Path, default=root / "README.md",
                    help="rewrite this one, and draw the plots in results/ beside it (default: README.md)")
    args = ap.parse_args(argv)
    steps, others = gather(args.tables or [root / "results" / "results.csv"], root)
    if args.all: return print_others(others)
    old = args.readme.read_text("utf-8")
    new = rebuild(old, steps)
    if args.check:
        found = list(differences(old, new))
        for text in found: say(text)
        if found: fail(f"{args.readme} is not what the table and the scripts give: run python results/report.py", 1)
        return say(f"{args.readme} is what the table and the scripts give")
    files = draw(steps, args.readme.parent / "results") | {args.readme.resolve(): new.encode()}
    for path, content in files.items(): write_whole(path, content)  # all of it is made before any of it is written

def main(argv=None, root=ROOT):
    try:
        run(argv, root)
    except UnicodeDecodeError as error:
        fail(f"the README is not UTF-8 ({error})")
    except OSError as error:
        fail(f"cannot read or write {error.filename} ({error.strerror}); mend that, nothing is half-written")

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal without the minus sign
    guarded(main)
