"""The pages: what stands between `<!-- NAME [words] -->` and `<!-- end -->`, made anew.

A block, on a line of its own, is a table or list: a function of what was measured and of the page's
folder. In a sentence there are three kinds of marker, each with the claim that the sentence makes:
    effect A B [LOSS] CLAIM   the paired change from B to A, and half its 95% interval
    mean A [LOSS] [CLAIM]     the mean over the seeds, likewise
    count WHAT [CLAIM]        a plain number
A claim is <X or >X, which the whole interval must be, or n.s.: the interval includes zero.
"""

import ast
import difflib
import html
import math
import re

from lib.command import Failure
from lib.markdown import (
    NONE,
    NOT_RECORDED,
    cell,
    change,
    link,
    mean,
    number,
    plus_minus,
    signed,
    spread,
    table,
)
from lib.measured import CONTROLS, PARTS, REPLICATIONS, ngram_label
from lib.stats import Interval, changes, interval
from lib.steps import docstring
from lib.tables import key_of

QUESTIONS = {  # that the diff of a step answers
    "train-2-double-embd": "Does a wider head help?",
    "train-2-2head": "Are two narrow heads better than one wide one?",
    "train-2-2head-4layer": "What do depth and residuals add?",
    "train-2-2head-4layer-mlp": "What does computing at each position add?",
    "train-2-2head-4layer-mlp-ln": "Does normalizing the input of each layer help?",
    "train-2-2head-4layer-mlp-ln-rope": "Does it help to know how far apart two characters are?",
    "train-2": "Does a smooth activation help?",
}


# --- Blocks ---
def change_from_above(m, step, above):
    """The change in test against what the step builds on, which is named if it is not above."""
    found = m.effect(step.key)
    if not found or step.builds_on == above:
        return change(found)
    return f"{change(found)}<br>vs {m.label(step.builds_on)}"


def ngram_rows(m, losses, before, after):
    """The n-gram models as rows of a table of steps, with as many empty cells before and after."""
    return [
        [
            ngram_label(row),
            *[NONE] * before,
            *(number(row[loss]) for loss in losses),
            *[NONE] * after,
        ]
        for row in m.ngrams().values()
    ]


def parameters(m, step):
    rows = m.runs(step)
    return f"{rows[max(rows)]['params']:,}" if rows else NONE


def comparison(m, folder):
    """The chain."""
    rows, above = [], None
    for step in m.chain:
        shape = [getattr(step.config, name, 1) for name in ("n_embd", "n_head", "n_layer")]
        losses = [mean(m.values(step.key, loss)) for loss in ("train", "test")]
        against = change_from_above(m, step, above)
        rows.append([link(step, folder), *shape, parameters(m, step), *losses, against])
        above = step.key
    rows += ngram_rows(m, ("train", "test"), 4, 1)
    return table("step,width,heads,layers,parameters,train,test,change in test".split(","), rows)


def losses(m, folder):
    """The chain and the presets, in all columns."""
    rows, above = [], None
    errors = {key_of(row): f"±{row['error']:.4f}" for row in m.of_now("over-names.csv")}
    columns = "train", "test", "test_from_2nd", "test_unseen"
    for step in m.compared:
        rows.append(
            [
                link(step, folder),
                len(m.runs(step)),
                *(spread(m.values(step.key, loss)) for loss in columns),
                change_from_above(m, step, above),
                errors.get(step.key, NONE),
                number(m.speeds.get(step.key, {}).get("ratio"), 2),
            ]
        )
        above = step.key
    header = "step,seeds,train,test,from 2nd,unseen,change in test,test-sampling error"
    rows += ngram_rows(m, columns, 1, 3)
    return table([*header.split(","), "relative step time"], rows)


def published(m, folder):
    """The published results beside their reimplementation and ours."""
    rows = []
    for step in [step for step in m.compared if step.key in m.published]:
        row, base = m.published[step.key], m.published.get(step.builds_on, {})
        exact = [x.get("exact") for x in (row, base)]
        again = [x.get("rebuilt") for x in (row, base)]
        ours = m.mean(step.key, "test_from_2nd")
        rows.append(
            [
                link(step, folder),
                f"{number(row['train'], 2)} / {number(row['test'], 2)}",
                number(exact[0], 3),
                plus_minus(m.mean(again[0], "test_from_2nd"), number) if again[0] else NONE,
                plus_minus(ours, number),
                NONE if None in exact else signed(exact[0] - exact[1], 3),
                change(m.effect(*again, "test_from_2nd")) if all(again) else NONE,
                change(m.effect(step.key, loss="test_from_2nd")),
            ]
        )
    header = "step|published train/test|published, full test set|reimplemented|ours"
    header += "|change as published, full test set|change reimplemented|change here"
    return table(header.split("|"), rows)


def group(m, folder, *words):
    """The ideas of a group, the largest fall of the test loss first."""
    name = " ".join(words)
    if not m.group(name):
        raise Failure(f"there is no group of ideas {name!r}")
    rows = []
    for step in m.group(name):
        verdict = "yes" if step.key in m.surviving else "no" if step.key in m.family else NONE
        rows.append(
            [
                link(step, folder),
                m.label(step.builds_on),
                parameters(m, step),
                len(m.runs(step)),
                mean(m.values(step.key)),
                change(m.effect(step.key)),
                *([] if name in (CONTROLS, REPLICATIONS) else [verdict]),
                number(m.speeds.get(step.key, {}).get("ratio"), 2),
            ]
        )
    header = "idea,builds on,parameters,seeds,test,change in test,Holm,relative step time".split(
        ","
    )
    if name in (CONTROLS, REPLICATIONS):
        header.remove("Holm")
    return table(header, rows)


def rates(m, folder):
    """The chain at other learning rates: validation losses, and the changes from step to step."""
    found = {step.key: m.at_rates(step) for step in m.chain}
    columns = sorted({rate for tried in found.values() for rate in tried})
    rows = []
    for step in m.chain:
        cells = []
        for rate in columns:
            at = found[step.key].get(rate)
            effect = m.effect(step.key, condition=at) if at else None
            words = f"<br>{change(effect)}" if effect else ""
            cells.append(mean(m.values(step.key, condition=at)) + words if at else NONE)
        rows.append([link(step, folder), *cells])
    return table(["step", *(f"{rate:g}" for rate in columns)], rows if columns else [])


def tried(m, folder):
    """The ideas that were evaluated on the validation set, one line per learning rate."""
    rows = []
    for step in [step for step in m.steps.values() if step.patch]:
        for rate, at in m.at_rates(step).items():
            values = m.values(step.key, condition=at)
            against = change(m.effect(step.key, condition=at))
            rows.append([link(step, folder), f"{rate:g}", len(values), mean(values), against])
    return table("idea,learning rate,seeds,validation,change at the same rate".split(","), rows)


def recipes(m, folder):
    """The presets, and the ideas that build on the long ones."""
    ideas = [x for x in m.steps.values() if x.patch and not x.preset]
    ideas = [x for x in ideas if x.builds_on in ("train-2@20k", "train-2@final")]
    rows = [
        [
            link(step, folder),
            m.label(step.builds_on),
            *(mean(m.values(step.key, loss)) for loss in ("train", "test")),
            change(m.effect(step.key)),
        ]
        for step in [*m.presets, *sorted(ideas, key=lambda x: (x.builds_on, x.label))]
    ]
    return table(["what", "against", "train", "test", "change"], rows)


def unseen(m, folder):
    """The loss of test names that are not in the training split."""
    steps = [step for step in m.chain if step.key in ("train-2-baseline", "train-2")]
    rows = [
        [
            link(step, folder),
            *(mean(m.values(step.key, loss)) for loss in ("test", "test_unseen")),
            change(m.mean(step.key, "test_unseen-test")),
        ]
        for step in [*steps, *m.presets]
    ]
    return table(["step", "test", "unseen", "difference"], rows)


def transfer(m, folder):
    """What each idea changes at the width of train-2, and what with preset 64x4."""
    rows = [[link(m.steps[key], folder), *map(change, pair)] for key, pair in m.transfer.items()]
    return table(["idea", "change at + GELU", "change at 64x4"], rows)


def parts(m, folder):
    """What is made of several ideas, beside each of them alone and their sum."""
    rows = []
    for name, of in PARTS.items():
        suffixes = ["", "@64x4"] if "@" not in name else [""]
        effects = [[m.effect(key + suffix) for suffix in suffixes] for key in of]
        sums = [m.parts(name, suffix) for suffix in suffixes]
        effects += [[total for total, _ in sums], [m.effect(name + x) for x in suffixes]]
        effects.append([beyond for _, beyond in sums])
        whole = m.label(name)
        labels = [*map(m.label, of), f"sum of the parts of {whole}", whole]
        labels.append(f"{whole} beyond the sum")
        for label, found in zip(labels, effects, strict=True):
            rows.append([label, *map(change, found), *[NONE] * (2 - len(suffixes))])
    return table(["what", "change in test", "change at 64x4"], rows)


def robust(m, folder):
    """What each step of the chain changes under other conditions."""
    rows = []
    for step in [step for step in m.chain if step.builds_on]:
        found = [changes.get(step.key) for changes in m.elsewhere.values()]
        rows.append([link(step, folder), *(change(x, digits=3) for x in found)])
    return table(["step", *m.elsewhere], rows)


def taken(m, folder):
    """What each part is worth, added in the chain and taken from its end."""
    parts = {
        "heads": ("train-2-2head", "train-2-with-one-head"),
        "layers 2 to 4": ("train-2-2head-4layer", "train-2-with-one-layer"),
        "residual connections": ("train-2-residual", "train-2-without-residual"),
        "MLP": ("train-2-2head-4layer-mlp", "train-2-without-mlp"),
        "LayerNorm": ("train-2-2head-4layer-mlp-ln", "train-2-no-norm"),
        "RoPE": ("train-2-2head-4layer-mlp-ln-rope", "train-2-no-positions"),
        "GELU for ReLU": ("train-2", "train-2-relu"),
    }
    rows = [
        [part, *map(change, [m.effect(step), m.taken(idea), m.taken(idea, "train-2@fast")])]
        for part, (step, idea) in parts.items()
    ]
    return table(["part", "added in the chain", "taken from the end", "taken from `fast`"], rows)


def lists(m, folder):
    """The n-gram baselines and the last step on every list."""
    rows = []
    for name in dict.fromkeys(row["data"] for row in m.tables["ngram.csv"]):
        at = m.on(name)
        if at and m.values("train-2", condition=at):
            ngrams = [number(row["test"]) for row in m.ngrams(at).values()]
            longest = m.ngrams(at)["kneser-ney"]["context"] + 1
            against = change(m.effect("train-2", "kneser-ney", condition=at))
            last = mean(m.values("train-2", condition=at))
            rows.append([name, *ngrams, longest, last, against])
    header = "list,bigram,Kneser-Ney,its n,+ GELU,+ GELU against Kneser-Ney"
    return table(header.split(","), rows)


def amounts(m, folder):
    """The last step and the best preset on fewer names, beside Kneser-Ney on the same names."""
    rows = []
    for script in ("train-2-tenth-of-names", "train-2-third-of-names", "train-2"):
        ngram = m.ngrams(script=script).get("kneser-ney")
        if ngram and script in m.steps:
            label = m.label(script) if m.steps[script].patch else "all of the names"
            found = [m.mean(x, y) for x in (script, f"{script}@best") for y in ("test", "lowest")]
            losses = [plus_minus(x, number) for x in found]
            rows.append([label, number(ngram["test"], 3), *losses])
    return table("training names,Kneser-Ney,+ GELU,its lowest,best,its lowest".split(","), rows)


def makemore(m, folder):
    """makemore's Transformer on two splits, beside Kneser-Ney on each."""
    names = "train-2@64x4", "train-2-published-makemore", "train-2-published-makemore-split"
    rows = []
    for step in [m.steps[name] for name in names if name in m.steps]:
        ngrams = m.ngrams(script=step.script) or m.ngrams()
        losses = [plus_minus(m.mean(step.key, loss), number) for loss in ("test", "lowest")]
        baseline = NONE
        if "kneser-ney" in ngrams:
            found = ngrams["kneser-ney"]
            baseline = f"{number(found['test'], 3)} ± {found['test_error']:.3f}"
        size = parameters(m, step), f"{step.config.steps:,}"
        rows.append([link(step, folder), *size, *losses, baseline])
    header = "model,parameters,steps,test at the end,lowest test,Kneser-Ney ± test-sampling error"
    return table(header.split(","), rows)


def floor(m, folder):
    """How much of what can be learned of the made-up list each step learns."""
    rows, blind = [], math.log(27)  # 26 letters and the end
    for made_up in m.tables["floor.csv"]:
        at, floor = m.on(made_up["data"]), made_up["test"]
        found = {step.label: m.mean(step.key, condition=at) for step in m.chain} if at else {}
        found |= {ngram_label(row): interval(row["test"]) for row in m.ngrams(at).values()}
        found |= {"blind guess": interval(blind)}
        for label, column in ("the distribution itself", "test"), ("its entropy", "entropy"):
            found[label] = Interval(made_up[column], made_up[f"{column}_error"], 1)
        found = {label: loss for label, loss in found.items() if loss}
        for label, loss in sorted(found.items(), key=lambda item: -item[1].mean):
            fraction = (blind - loss.mean) / (blind - floor)
            above = signed(loss.mean - floor, 3)
            rows.append([label, plus_minus(loss, number), above, f"{fraction:.1%}"])
    return table("model,test,above the floor,fraction learned".split(","), rows)


def diff(old, new):
    """What differs but for the docstring, one line around it, under the names of the sections."""
    ends = [ast.parse(x.text).body[0].end_lineno for x in (old, new)]
    before, after = (x.text.splitlines()[n:] for x, n in zip((old, new), ends, strict=True))
    lines = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for hunk in matcher.get_grouped_opcodes(1):
        banners = re.findall("^# --- (.*) ---$", "\n".join(after[: hunk[0][4]]), flags=re.M)
        lines.append(f"@@ {banners[-1] if banners else 'Top'} @@")
        for kind, a, b, c, d in hunk:
            if kind == "equal":
                lines += [f" {line}".rstrip() for line in before[a:b]]
            else:
                lines += [f"-{line}" for line in before[a:b]] + [f"+{line}" for line in after[c:d]]
    return "\n".join(lines)


def chain(m, folder):
    """One collapsed block per step: a question, the explanation, the effect, the diff."""
    blocks = []
    for step in [step for step in m.chain if step.builds_on]:
        title, _, explanation = docstring(step.text).partition("\n\n")
        title = title.partition(":")[2].strip()
        summary = html.escape(QUESTIONS.get(step.key, title))
        base = m.steps[step.builds_on]
        found = plus_minus(m.effect(step.key))
        lines = [
            f"<details>\n<summary><b>{html.escape(step.label)}</b>: {summary}</summary>",
            f"{title[:1].upper()}{title[1:]}",
            explanation,
            f"Change in test against {base.label}: {found}.",
            f"```diff\n{diff(base, step)}\n```",
            "</details>",
        ]
        blocks.append("\n\n".join(lines))
    return "\n\n".join(blocks)


def texts(m, folder):
    """What texts the steps were trained on by stream.py, and what is published for them."""
    names = ("text_hash", "block_size", "n_layer", "n_embd")
    known = {tuple(row[x] for x in names): row["loss"] for row in m.tables["published/texts.csv"]}
    lines = []
    for (script, text_hash, block_size, _), rows in m.texts().items():
        first = next(iter(rows.values()))
        settings = first["settings"]
        key = text_hash, block_size, settings.get("n_layer", 1), settings["n_embd"]
        found = [{x: row[y] for x, row in rows.items()} for y in ("loss", "random_windows")]
        lines.append(
            [
                f"{script} on {first['text']}",
                f"{first['params']:,}",
                block_size,
                f"{settings['steps']:,}",
                len(rows),
                *map(spread, found),
                number(known.get(key), 2),
            ]
        )
    header = "model,parameters,block,steps,seeds,held-out loss,by random windows,published"
    return table(header.split(","), lines)


def samples(m, folder):
    """Ten names of three models, of each the lowest seed."""
    lines = []
    for key in ("train-2-baseline", "train-2", "train-2@best"):
        rows = m.runs(m.steps[key]) if key in m.steps else {}
        if rows:
            names = ", ".join(name or "(empty)" for name in rows[min(rows)]["samples"])
            lines.append(f"- **{m.label(key)}**: {cell(names)}")
    return "\n".join(lines) or "No run is recorded yet."


def canonical(m):
    return [row for x in m.steps.values() if x.script not in m.copies for row in m.runs(x).values()]


def runs(m, folder):
    """What made the figures."""
    rows = canonical(m)
    if not rows:
        return "No run is recorded yet."

    def every(values):
        return cell(", ".join(map(str, sorted(set(values)))))

    days = sorted(f"{row['finished']:%Y-%m-%d}" for row in rows)
    threads = every(row["settings"].get("threads", 1) for row in rows)
    others = every(row[x] for row in rows for x in ("device", "torch"))
    return (
        f"{len(rows)} runs: seeds {every(row['seed'] for row in rows)}; {others}; threads: "
        f"{threads}; finished {' to '.join(dict.fromkeys([days[0], days[-1]]))}."
    )


BLOCKS = {
    function.__name__: function
    for function in (samples, comparison, chain, losses, published, group, rates, recipes, unseen)
    + (
        transfer,
        tried,
        parts,
        robust,
        taken,
        lists,
        amounts,
        makemore,
        floor,
        texts,
        runs,
    )
}


# --- Markers in sentences ---
def significant(pairs):
    return sum(pair.significant for pair in pairs)


COUNTS = {
    "runs": lambda m: len(canonical(m)),
    "ideas": lambda m: len(m.family),
    "ideas-significant": lambda m: significant(m.family.values()),
    "ideas-holm": lambda m: len(m.surviving),
    "ideas-by-chance": lambda m: round(0.05 * len(m.family)),  # of 95% intervals, without effects
    "controls": lambda m: len(m.group(CONTROLS)),
    "replications": lambda m: len(m.group(REPLICATIONS)),
    "transfer-measured": lambda m: len(m.transfer),
    "transfer-significant": lambda m: significant(small for small, _ in m.transfer.values()),
    "transfer-kept": lambda m: transferred(m, 1),
    "transfer-turned": lambda m: transferred(m, -1),
    "replication-error": lambda m: m.replication_error(),
}
SHARES = {  # in percent, with that many steps after colons
    "known-names": (0, lambda m: next((x["known"] for x in m.tables["floor.csv"]), None)),
    "learned": (1, lambda m, step: learned(m, step)),
    "new-names": (1, lambda m, step: m.new_names(step)),
    "probability": (1, lambda m, step: math.exp(-m.mean(step).mean) if m.mean(step) else None),
    "time": (2, lambda m, step, of: m.time(step, of)),
}


def learned(m, step):
    """How far a step gets on the made-up list, from a blind guess to the lowest possible loss."""
    for made_up in m.tables["floor.csv"]:
        at, blind = m.on(made_up["data"]), math.log(27)
        loss = m.mean(step, condition=at) if at else None
        return loss and (blind - loss.mean) / (blind - made_up["test"])
    return None


def holding(m, step):
    """In how many conditions a step lowers the loss significantly, and that with all measured."""
    found = [changes.get(step) for changes in m.elsewhere.values()]
    found = [x for x in found if x and x.n > 1]
    helps = sum(x.high < 0 for x in found)
    return (helps, f"{helps} of {len(found)}") if found else (None, "")


def transferred(m, sign):
    """The ideas that are significant at both sizes, with the same sign or the other one."""
    both = [pair for pair in m.transfer.values() if significant(pair) == 2]
    return sum(small.mean * wide.mean * sign > 0 for small, wide in both)


def count(m, what):
    """A plain number, and its text."""
    name, *steps = what.split(":")
    if name == "holds" and len(steps) == 1:
        m.check(*steps)
        return holding(m, *steps)
    if name in SHARES and len(steps) == SHARES[name][0]:
        for step in steps:
            m.check(step)
        value = SHARES[name][1](m, *steps)
        return value, "" if value is None else f"{value:.{int(name == 'probability')}%}"
    if what not in COUNTS:
        raise Failure(f"no count {what!r}; there are {', '.join([*COUNTS, *SHARES, 'holds'])}")
    value = COUNTS[what](m)
    return value, f"{value:.3f}" if isinstance(value, float) else str(value)


LOSS = "(?:train|test|test_from_2nd|test_unseen|lowest)"
FORMS = {
    "effect": rf"(\S+) (\S+)(?: ({LOSS}(?:-{LOSS})?))?( n\.s\.| [<>]-?\d+(?:\.\d+)?)",
    "mean": rf"(\S+)(?: ({LOSS}(?:-{LOSS})?))?( [<>]-?\d+(?:\.\d+)?)?",
    "count": r"(\S+)( [<>]-?\d+(?:\.\d+)?)?",
}


def holds(claim, found):
    if claim == "n.s.":
        return found.low <= 0 <= found.high
    limit = float(claim[1:])
    return found.high < limit if claim[0] == "<" else found.low > limit


def fill(m, marker):
    """The text of a marker in a sentence, and what it claims that does not hold, or None."""
    kind, _, rest = marker.partition(" ")
    form = re.fullmatch(FORMS[kind], rest)
    if not form:
        usage = re.search(rf"^ *({kind} .*?)  ", __doc__, flags=re.M)[1]
        raise Failure(f"{marker!r} is not {usage}")
    *words, claim = form.groups()
    if kind == "count":
        value, text = count(m, *words)
        found = None if value is None else interval(float(value))
    elif kind == "mean":
        name, loss = words[0], words[1] or "test"
        m.check(name)
        found = m.mean(name, loss)
        text = plus_minus(found, signed if "-" in loss else number)
    else:
        a, b, loss = words
        m.check(a)
        m.check(b)
        found = interval(changes(*(m.values(x, loss or "test") for x in (a, b))))
        text = plus_minus(found)
    if found is None:
        return NOT_RECORDED, None
    wrong = claim and not holds(claim.strip(), found)
    return text, f"{marker!r} does not hold: it is {text}" if wrong else None


# --- Pages ---
def pages(root):
    return [root / "README.md", root / "results" / "README.md"]


def body(m, page, marker, line_before):
    """What belongs between a marker and its end, and the claim that does not hold, or None."""
    name, *words = marker.split() or [""]
    if name in FORMS:
        if re.fullmatch(r"\s*([-*>]|\d+\.)?\s*", line_before):
            raise Failure("a figure begins a line, which ends a paragraph: put a word before it")
        return fill(m, marker)
    if name not in BLOCKS:
        raise Failure(f"no block or figure {name!r}; there are {', '.join([*BLOCKS, *FORMS])}")
    if line_before.strip() or (words and name != "group"):
        raise Failure(f"{marker!r} must be a line of its own: <!-- {name} -->")
    return f"\n\n{BLOCKS[name](m, page.parent, *words)}\n\n", None


def rebuild(page, m):
    """The page's text, what it becomes, and the claims of its sentences that do not hold."""
    try:
        text = page.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{page} is not UTF-8: {error}") from error
    new, broken, place, opened, line = [], [], 0, None, 1
    try:
        for match in re.finditer(r"<!--(?: ([^\n]*?) -->)?", text):
            line = text.count("\n", 0, match.start()) + 1
            marker = match[1]
            if marker is None or (marker == "end") != (opened is not None):
                raise Failure(f"{opened or match[0]!r}: markers are <!-- NAME --> ... <!-- end -->")
            if marker == "end":
                opened = None
            else:
                opened = marker
                filled, problem = body(m, page, marker, text[: match.start()].rpartition("\n")[2])
                broken += [f"{page}, line {line}: {problem}"] if problem else []
                new += [text[place : match.end()], filled]
            place = match.start() if marker == "end" else place
        if opened is not None:
            raise Failure(f"{opened!r} has no <!-- end -->")
    except Failure as error:
        raise Failure(f"{page}, line {line}: {error}") from error
    return text, "".join([*new, text[place:]]), broken


def differences(page, old, new):
    """The first line in which the page differs from what it should be; nothing where it is so."""
    before, after = old.split("\n"), new.split("\n")
    pairs = zip([*before, "(the end)"], [*after, "(the end)"], strict=False)
    for line, (was, should) in enumerate(pairs, start=1):
        if was != should:
            return [f"{page}, line {line}:\n  it is:     {was}\n  should be: {should}"]
    return []
