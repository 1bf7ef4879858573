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
from scripts import ROOT, fail, load, parser, say

COLUMNS = ("script config preset overrides builds_on data data_hash seed steps n_embd head_size n_head n_layer params "
           "train test test_from_2nd test_unseen seconds ms_per_step device threads torch source finished samples "
           "settings").split()
LOSSES = ("train", "test", "test_from_2nd")

# --- The steps: scripts and their presets ---
@dataclass
class Step:
    """A script, or a preset of one, and the runs recorded of it."""
    key: str  # "train-2.py" or "train-2.py --preset 64x4", which is how others name it as what they build on
    path: Path
    preset: str
    label: str
    builds_on: str | None
    settings: dict
    source: str
    data_hash: str
    docstring: str
    rows: dict = field(default_factory=dict)  # seed: row
    published: dict = field(default_factory=dict)  # train and test, where there are any

    @property
    def stale(self):
        return any(row["stale"] for row in self.rows.values())

    def values(self, column):
        return [row[column] for row in self.rows.values()]

def key_of(row):
    return row["script"] + (f" --preset {row['preset']}" if row["preset"] else "")

def steps_of(path):
    """The step that a script is, and those that its presets are."""
    module = load(path)
    try:
        plain, source = {"label": module.CONFIG, "builds_on": module.BUILDS_ON, "knobs": {}}, module.source_hash()
        return [Step(key_of({"script": path.name, "preset": name}), path, name, preset["label"], preset["builds_on"],
                     asdict(module.Config(**preset["knobs"])), source, module.SHA256[:12], module.__doc__ or "")
                for name, preset in {"": plain, **module.PRESETS}.items()]
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

def is_stale(row, step):
    """Was the row made by another source than the step's present one, or with other defaults?"""
    free = {"seed", "threads", *(item.partition("=")[0] for item in row["overrides"].split())}
    then, now = ({k: v for k, v in settings.items() if k not in free} for settings in (row["settings"], step.settings))
    return row["source"] != step.source or then != now

def left_out(row, steps):
    """Why the row has no part in the comparison; nothing where it has."""
    step = steps.get(key_of(row))
    if not step: return "no such script or preset"
    if row["overrides"]: return "other settings"
    if row["data_hash"] != step.data_hash: return "other data"
    return "" if row["device"].startswith("cpu") else "other device"

def assign(rows, steps):
    """Give each step its rows, one a seed: the newest of the present source, else the newest. Return the others."""
    for row in rows:
        row["why"] = left_out(row, steps)
        row["stale"] = key_of(row) in steps and is_stale(row, steps[key_of(row)])
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
    parse = dict.fromkeys(["train", "test"], PARSE["test_unseen"])
    for row in read_csv(root / "results" / "published.csv", ["script", "preset", "train", "test"], parse):
        if key_of(row) in steps: steps[key_of(row)].published = row
    shown = {key: step for key, step in steps.items() if not step.preset or step.rows or step.published}
    labels = [step.label for step in shown.values()]
    for step in shown.values():  # a copied script may have kept its label
        if labels.count(step.label) > 1: step.label += f" ({step.path.stem})"
    return shown, others

# --- Statistics ---
@functools.cache
def t_quantile(df, inside=0.95):
    """The t within plus and minus which Student's distribution has the share `inside`."""
    # With t = sqrt(df) * tan(a) the density is scale * cos(a) ** (df - 1), smooth and bounded.
    scale = 2 / math.sqrt(math.pi) * math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2))
    def share(angle, parts=200):  # Simpson's rule
        y = [math.cos(angle * i / parts) ** (df - 1) for i in range(parts + 1)]
        return scale * angle / parts / 3 * (y[0] + y[-1] + 4 * sum(y[1::2]) + 2 * sum(y[2:-1:2]))
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < inside else (low, middle)
    return math.sqrt(df) * math.tan(low)

def interval(values):
    """Mean, and half the width of its 95% interval; None with a single value."""
    if len(values) < 2: return statistics.fmean(values), None
    return statistics.fmean(values), t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))

@dataclass
class Effect:
    """The change in `test` from one step to another, paired by seed."""
    base: Step
    mean: float
    half: float | None
    seeds: int
    stale: bool

    @property
    def interval(self):
        return "" if self.half is None else f"{signed(self.mean - self.half)} to {signed(self.mean + self.half)}"

    @property
    def may_be_zero(self):
        return self.half is not None and abs(self.mean) <= self.half

def effect(step, steps):
    """What the step changes against the one that it builds on; None where no seed has both."""
    base = steps.get(step.builds_on)
    seeds = step.rows.keys() & base.rows.keys() if base else ()
    if not seeds: return None
    pairs = [(step.rows[seed], base.rows[seed]) for seed in sorted(seeds)]
    changes = [row["test"] - base_row["test"] for row, base_row in pairs]
    return Effect(base, *interval(changes), len(pairs), any(row["stale"] for pair in pairs for row in pair))

# --- Markdown ---
NONE = "–"

def signed(value):
    return f"{value:+.4f}".replace("-", "−")

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

def plural(count, noun):
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

def step_row(step, steps, above):
    params, published = step.values("params"), step.published.get("test")
    return [f"[{step.label}]({urllib.parse.quote(step.path.name)})" + " †" * step.stale,
            f"{params[-1]:,}" if params else NONE, len(params), *(loss_cell(step.values(column)) for column in LOSSES),
            NONE if published is None else f"{published:.2f}", effect_cell(step, steps, above)]

def comparison_of(chosen, steps):
    header = "step,parameters,seeds,train,test,test from 2nd,published test,change in test".split(",")
    text = table(header, [step_row(step, steps, above) for step, above in zip(chosen, [None, *chosen])])
    if any(step.stale for step in chosen):
        text += "\n\n† from another version of the script or other defaults than the present ones: run it again."
    return text

def comparison(steps):
    """The steps of the chain, with what the columns mean."""
    return comparison_of([step for step in steps.values() if not step.preset], steps) + """

Losses are in nats per character, exact over the whole split: the mean over the seeds, ± their standard deviation.
*Test from 2nd* leaves out the first letter of every name, which the published results never predicted: that column,
not *test*, is the one to compare with *published test* (one seed, estimated on 50 batches).
*Change in test* is against the row above or the step named, paired by seed, with its 95% interval (Student's t) where
there are two seeds or more: it covers initialisation and batches, for this one split.
*May be zero*: not distinguishable from zero, because the interval includes it."""

def scaling(steps):
    """The presets that have been run or published."""
    presets = [step for step in steps.values() if step.preset]
    return comparison_of(presets, steps) if presets else ""

def last_recorded(steps):
    """The last recorded step of the chain, and the recorded presets."""
    recorded = [step for step in steps.values() if step.rows]
    return [step for step in recorded if not step.preset][-1:], [step for step in recorded if step.preset]

def samples(steps):
    """Names that the last step and the presets generated, each with its lowest seed."""
    last, presets = last_recorded(steps)
    return "\n".join(f"- **{step.label}**: {cell(', '.join(name or '(empty)' for name in step.values('samples')[0]))}"
                     for step in last + presets)

def meaning(steps):
    """What the losses of the last step and the last preset mean."""
    last, presets = last_recorded(steps)
    lines = []
    for step in last + presets[-1:]:
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
    for step in (step for step in steps.values() if not step.preset):
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

BLOCKS = {block.__name__: block for block in (comparison, scaling, samples, meaning, runs, chain)}

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
    try:
        import plots  # and with it matplotlib, which nothing else here needs
    except ImportError as error:
        fail(f"no plots without matplotlib ({error}): pip install -r requirements.txt")
    chosen = [step for step in steps.values() if not step.preset]
    curves = {step.label: list(filter(None, map(read_curve, step.rows.values()))) for step in chosen}
    write_whole(folder / "loss-curves.png", plots.loss_curves({k: v for k, v in curves.items() if v}))
    points = {step.label: (step.values("test_from_2nd"), step.published.get("test")) for step in chosen}
    write_whole(folder / "ablation.png", plots.ablation(points, interval))

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
    draw(steps, args.readme.parent / "results")
    write_whole(args.readme.resolve(), new.encode())

def main(argv=None, root=ROOT):
    try:
        run(argv, root)
    except UnicodeDecodeError as error:
        fail(f"the README is not UTF-8 ({error})")
    except OSError as error:
        fail(f"cannot read or write {error.filename} ({error.strerror}); mend that, nothing is half-written")
    except KeyboardInterrupt:
        fail("stopped; nothing is half-written", 130)

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal without the minus sign
    main()
