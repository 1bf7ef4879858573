"""The block of the chain: what each step changes in its script, as a page shows it."""

import ast
import difflib
import html
import re

from lib.known import QUESTIONS
from lib.markdown import NOT_RECORDED, cell, change


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


def invented(m, step, most=5):
    """A sentence with the first names that the lowest seed of a step has drawn."""
    rows = m.runs(step)
    names = rows[min(rows)]["samples"][:most] if rows else ()
    return f" It invents {cell(', '.join(filter(None, names)))}." if any(names) else ""


def chain(m, folder):
    """One collapsed block per step: a question, the explanation, the effect, the diff."""
    blocks = []
    for step in [step for step in m.chain if step.builds_on]:
        title, _, explanation = step.docstring.partition("\n\n")
        title = title.partition(":")[2].strip()
        summary = html.escape(QUESTIONS.get(step.key, title))
        base = m.step(step.builds_on)
        effect = m.effect(step.key)
        found = change(effect, digits=3).removesuffix(".") if effect else NOT_RECORDED
        blocks += [
            f"<details>\n<summary><b>{html.escape(step.label)}</b>: {summary}</summary>",
            f"{title[:1].upper()}{title[1:]}",
            explanation,
            f"Change in test against {base.label}: {found}.{invented(m, step)}",
            f"```diff\n{diff(base, step)}\n```",
            "</details>",
        ]
    return "\n\n".join(blocks)
