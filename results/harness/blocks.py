"""The tables and lists of the pages, each a function of the evidence and the page's folder."""

import difflib
import html
import re
from dataclasses import asdict

from harness import effects
from harness.command import Failure
from harness.evidence import counted, of_now, speeds, texts
from harness.markdown import NONE, cell, link, mean, parameters, spread, table
from harness.rows import key_of
from harness.scripts import docstring
from harness.stats import effect, in_words, signed


def change(step, evidence, above):
    """The change in test against what the step builds on, which is named if it is not above."""
    base = evidence.steps.get(step.builds_on)
    found = base and effect(step, base)
    if not found:
        return NONE
    lines = [signed(found.mean)]
    if found.seeds > 1:
        lines.append(f"{signed(found.low)} to {signed(found.high)}")
    if found.may_be_zero:
        lines.append("*may be zero*")
    if base is not above:
        lines.append(f"vs {base.label}")
    return "<br>".join(lines)


def comparison(evidence, folder):
    """The chain, in few columns."""
    rows, above = [], None
    for step in evidence.chain:
        losses = [mean(step.values(column)) for column in ("train", "test")]
        rows.append([link(step, folder), parameters(step), *losses, change(step, evidence, above)])
        above = step
    for label, row in counted(evidence).items():
        losses = [f"{row[column]:.4f}" for column in ("train", "test")]
        rows.append([f"*{label}*", NONE, *losses, NONE])
    return table(["step", "parameters", "train", "test", "change in test"], rows)


def losses(evidence, folder):
    """Every step and preset, in all columns."""
    measured, rows, above = speeds(evidence), [], None
    errors = {key_of(row): f"±{row['error']:.4f}" for row in of_now(evidence, "over-names.csv")}
    for step in evidence.compared:
        unseen = [value for value in step.values("test_unseen") if value is not None]
        figures = [spread(step.values(c)) for c in ("train", "test", "test_from_2nd")]
        published, exact = step.published.get("test"), step.published.get("exact")
        cost = measured.get(step.key, {}).get("ratio")
        rows.append(
            [
                link(step, folder),
                len(step.rows),
                *figures,
                spread(unseen),
                NONE if published is None else f"{published:.2f}",
                NONE if exact is None else f"{exact:.3f}",
                change(step, evidence, above),
                errors.get(step.key, NONE),
                NONE if cost is None else f"{cost:.2f}",
            ]
        )
        above = step
    columns = ("train", "test", "test_from_2nd", "test_unseen")
    for label, row in counted(evidence).items():
        figures = [f"{row[column]:.4f}" for column in columns]
        rows.append([f"*{label}*", NONE, *figures, *[NONE] * 5])
    header = ["step", "seeds", "train", "test", "from 2nd", "unseen", "published"]
    header += ["published, exact", "change in test", "over names", "cost of a training step"]
    return table(header, rows)


def diff(old, new):
    """What differs, a line around it, under the names of the sections."""
    before, after = old.text.splitlines(), new.text.splitlines()
    lines = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for hunk in matcher.get_grouped_opcodes(1):
        banners = re.findall("^# --- (.*) ---$", "\n".join(after[: hunk[0][4]]), flags=re.M)
        lines.append(f"@@ {banners[-1] if banners else 'Docstring'} @@")
        for kind, a, b, c, d in hunk:
            if kind == "equal":
                lines += [f" {line}".rstrip() for line in before[a:b]]
            else:
                lines += [f"-{line}" for line in before[a:b]] + [f"+{line}" for line in after[c:d]]
    return "\n".join(lines)


def chain(evidence, folder):
    """One collapsed block per step: its explanation, its effect, its diff."""
    blocks = []
    for step in evidence.chain:
        title, _, explanation = docstring(step.text).partition("\n\n")
        summary = html.escape(title.removeprefix(f"{step.label}: "))
        block = [
            f"<details>\n<summary><b>{html.escape(step.label)}</b>: {summary}</summary>",
            explanation,
        ]
        base = evidence.steps.get(step.builds_on)
        found = base and effect(step, base)
        if found:
            block.append(f"Change in test against {base.label}: {in_words(found)}.")
        if base:
            block.append(f"```diff\n{diff(base, step)}\n```")
        blocks.append("\n\n".join([*block, "</details>"]))
    return "\n\n".join(blocks)


def text_table(evidence, folder):
    """What texts the steps were trained on by stream.py, and what is published for them."""
    names = ("text_hash", "block_size", "n_layer", "n_embd")
    published = {
        tuple(row[name] for name in names): f"{row['loss']:.2f}"
        for row in evidence.tables["published/texts.csv"]
    }
    lines = []
    for (script, text_hash, block_size, _), rows in texts(evidence).items():
        first = next(iter(rows.values()))
        settings = first["settings"]
        key = text_hash, block_size, settings.get("n_layer", 1), settings["n_embd"]
        lines.append(
            [
                f"{script} on {first['text']}",
                f"{first['params']:,}",
                block_size,
                f"{settings['steps']:,}",
                len(rows),
                *(spread([row[x] for row in rows.values()]) for x in ("loss", "random_windows")),
                published.get(key, NONE),
            ]
        )
    header = "model,parameters,block,steps,seeds,held-out loss,by random windows,published"
    return table(header.split(","), lines) if lines else "No run is recorded yet."


def tuning(evidence, folder):
    """The candidates for `fast`, `best` and `modern`, by their loss on the validation set."""
    usual = asdict(evidence.steps["train-2@64x4"].config)
    for name in "seed", "threads", "eval_interval", "validate":
        del usual[name]
    groups = {}
    for row in sorted(evidence.tables["tuning.csv"], key=lambda row: row["finished"]):
        settings = row["settings"]
        if not settings.get("validate"):
            raise Failure("tuning.csv has a row without --validate: delete it, and tune without it")
        other = sorted(x for x in usual.keys() & settings.keys() if settings[x] != usual[x])
        words = " ".join(f"{name}={settings[name]}" for name in other)
        groups.setdefault((row["script"], words), {})[row["seed"]] = row
    lines = []
    for (script, words), rows in groups.items():
        rows = list(rows.values())
        first = rows[0]
        seen = first["settings"]["steps"] * first["settings"]["batch_size"]
        columns = ("train", "test", "test_from_2nd")
        figures = [mean([row[column] for row in rows]) for column in columns]
        lines.append([f"`{script}` {words}", f"{seen:,}", len(rows), *figures])
    lines.sort(key=lambda line: float(line[-1]))
    header = ["settings", "names seen", "seeds", "train", "validation", "from 2nd"]
    return table(header, lines)


def architecture(evidence, folder):
    """Where the parameters of the last step and of its widest preset are."""
    steps = [evidence.steps["train-2"], evidence.steps["train-2@64x4"]]
    groups = {"token embedding": "tok_emb", "attention": ".attn.", "MLP": ".mlp."}
    groups |= {"LayerNorm": ".ln", "lm_head": "lm_head"}
    columns = []
    for step in steps:
        config = step.config
        model = step.module.Transformer(config, 28, 16)  # 26 letters, the boundary and PAD
        sizes = [(name, p.numel()) for name, p in model.named_parameters()]
        counts = [sum(n for name, n in sizes if part in name) for part in groups.values()]
        shape = [config.n_embd, config.n_head, config.n_embd // config.n_head, config.n_layer]
        columns.append([f"{n:,}" for n in [*shape, *counts, sum(n for _, n in sizes)]])
    names = ["n_embd", "heads", "head_size", "layers", *groups, "all"]
    header = ["", *(f"`{step.key}`" for step in steps)]
    return table(header, zip(names, *columns, strict=True))


def samples(evidence, folder):
    """The names that the last step and the presets recorded, of each the lowest seed."""
    lines = []
    for step in evidence.compared:
        if step.path.stem == "train-2" and step.rows:
            names = step.values("samples")[0]
            lines.append(f"- **{step.label}**: {cell(', '.join(x or '(empty)' for x in names))}")
    return "\n".join(lines)


def runs(evidence, folder):
    """What made the figures."""
    rows = [row for step in evidence.steps.values() for row in step.rows.values()]
    if not rows:
        return "No run is recorded yet."

    def every(column):
        return cell(", ".join(map(str, sorted({row[column] for row in rows}))))

    threads = ", ".join(map(str, sorted({row["settings"]["threads"] for row in rows})))

    days = sorted(f"{row['finished']:%Y-%m-%d}" for row in rows)
    finished = " to ".join(dict.fromkeys([days[0], days[-1]]))
    return (
        f"{len(rows)} runs: seeds {every('seed')}; {every('device')}; threads: {threads}; "
        f"torch {every('torch')}; finished {finished}."
    )


BLOCKS = {
    "comparison": comparison,
    "chain": chain,
    "losses": losses,
    "texts": text_table,
    "tuning": tuning,
    "ideas": effects.ideas,
    "transfer": effects.transfer,
    "replication": effects.replication,
    "rates": effects.rates,
    "tried": effects.tried,
    "architecture": architecture,
    "samples": samples,
    "runs": runs,
}
