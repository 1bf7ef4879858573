"""The sentences of figures that open the README's findings. What they mean is written there, without figures."""
from stats import effect, interval, paired, plural, signed

LAST = "train-2.py"
HEADS, LAYERS, MLP, LN, ROPE = (f"train-2-2head{name}.py" for name in (
    "", "-4layer", "-4layer-mlp", "-4layer-mlp-ln", "-4layer-mlp-ln-rope"))
BASE, WIDE = "train-2-baseline.py", "train-2-double-embd.py"

class Lacking(Exception):
    """A step that the sentence is about is not recorded, or on no seed of the step that it is compared with."""

def preset(name):
    return f"{LAST} --preset {name}"

def train(row):
    return row["train"]

def from_2nd(row):
    return row["test_from_2nd"]

def gap(row):
    return row["test"] - row["train"]

def of(steps, key):
    """A step that has rows."""
    if key not in steps or not steps[key].rows: raise Lacking(key)
    return steps[key]

def change(steps, key, base=None, **loss):
    """−0.1371 (95% interval −0.1444 to −0.1299, 5 seeds)"""
    step = of(steps, key)
    found = paired(step, of(steps, base or step.builds_on), **loss)
    if not found: raise Lacking(key)
    words = [f"95% interval {found.interval}"] if found.interval else []
    words += ["not distinguishable from zero"] * found.may_be_zero + [plural(found.seeds, "seed")]
    return f"{signed(found.mean)} ({', '.join(words)})" + " †" * found.stale

def published(steps, key, kind="test"):
    """What the published figures say that the step changes."""
    step = of(steps, key)
    figures = [each.published.get(kind) for each in (step, of(steps, step.builds_on))]
    if None in figures: raise Lacking(key)
    return signed(figures[0] - figures[1])[: -1 if kind == "exact" else -2]  # they have three digits, or two

def beside_published(steps, key, what):
    """A step's effect on the loss that was published, too."""
    return (f"{what} changes the test loss by {change(steps, key)}, and from the 2nd letter on by "
            f"{change(steps, key, loss=from_2nd)}; by the published figures, which are from there on, it was "
            f"{published(steps, key)}, and by an exact evaluation of the published scripts "
            f"{published(steps, key, 'exact')}.")

def least(steps, key):
    """Training seconds of the run that was disturbed least by what else the machine did."""
    return min(of(steps, key).values("seconds"))

def reached(steps, key):
    """Mean of test_from_2nd, and its interval."""
    centre, half = interval(of(steps, key).values("test_from_2nd"))
    text, seeds = f"a test loss from the 2nd letter on of {centre:.4f}", plural(len(steps[key].rows), "seed")
    return text if half is None else f"{text} (95% interval {centre - half:.4f} to {centre + half:.4f}, {seeds})"

def depth(steps):
    return (f"Four layers, each with a residual, change the test loss by {change(steps, LAYERS)} against one layer; "
            f"doubling the width of a single head changes it by {change(steps, WIDE)}.")

def heads(steps):
    return (f"Two heads and their projection change the test loss by {change(steps, HEADS)} against one head, and by "
            f"{change(steps, HEADS, WIDE)} against one head of twice the width.")

def mlp(steps):
    return (f"The MLP changes the test loss by {change(steps, MLP)} and the train loss by "
            f"{change(steps, MLP, loss=train)}; the gap between them grows by {change(steps, MLP, loss=gap)}.")

def layernorm(steps):
    return beside_published(steps, LN, "LayerNorm")

def rope(steps):
    return beside_published(steps, ROPE, "RoPE")

def gelu(steps):
    return beside_published(steps, LAST, "GELU in place of ReLU")

def width(steps):
    key = preset("64x4")
    return (f"Twice the width and twice the heads change the test loss by {change(steps, key)}, the train loss by "
            f"{change(steps, key, loss=train)}; the gap between them grows by {change(steps, key, loss=gap)}.")

def dropout(steps):
    key = preset("dropout")
    return (f"Dropout changes the test loss by {change(steps, key)} and the gap between train and test by "
            f"{change(steps, key, loss=gap)}.")

def longer(steps):
    key = preset("20k")
    return (f"Four times the steps change the test loss by {change(steps, key)} against `dropout`, and by "
            f"{change(steps, key, preset('64x4'))} against `64x4`, which trains briefly and without dropout.")

def recipe(steps):
    key = preset("final")
    return (f"The training recipe changes the test loss by {change(steps, key)}: `final` ends at {reached(steps, key)}"
            f"{published_final(steps)}.")

def published_final(steps):
    exact = of(steps, preset("final")).published.get("exact")
    return "" if exact is None else f"; the published final model, evaluated exactly, ends at {exact:.3f}"

def own(steps):
    fast, best, final = preset("fast"), preset("best"), preset("final")
    share = least(steps, fast) / least(steps, final)
    return (f"`fast` ends at {reached(steps, fast)}, in {share:.0%} of `final`'s training time"
            f"{published_final(steps)}. `best` changes the test loss by {change(steps, best, final)} against `final`.")

def padding(steps):
    keys = [f"results/stream.py {name}" for name in (BASE, LAST)]
    both = [f"{change(steps, key)} at {of(steps, of(steps, key).builds_on).label}" for key in keys]
    arch = change(steps, LAST, BASE)
    return (f"Windows of one stream of names in place of padded names change the test loss by {both[0]}, and by "
            f"{both[1]}. All steps from the baseline to + GELU together change it by {arch}.")

def unseen(steps):
    def hidden(row): return row["test_unseen"] - row["test"]
    parts = []
    for key in (BASE, LAST, preset("final")):
        values = [hidden(row) for row in of(steps, key).rows.values() if row["test_unseen"] is not None]
        if not values: raise Lacking(key)
        centre, half = interval(values)
        spread = "" if half is None else f" (95% interval {signed(centre - half)} to {signed(centre + half)})"
        parts.append(f"{signed(centre)}{spread} at {steps[key].label}")
    return ("Leaving out the test names that also occur in the training split changes the test loss by "
            f"{', '.join(parts)}.")

FINDINGS = {"heads": heads, "depth": depth, "mlp": mlp, "layernorm": layernorm, "rope": rope, "gelu": gelu,
            "width": width, "dropout": dropout, "longer": longer, "recipe": recipe, "own": own, "padding": padding,
            "unseen": unseen}

def sentence(name):
    """The finding's block of the README."""
    def block(steps):
        try:
            return FINDINGS[name](steps)
        except Lacking as step:
            return f"No figures yet: {step} is not recorded on the seeds that this needs."
    return block
