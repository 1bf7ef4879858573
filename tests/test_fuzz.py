"""Random data and command lines: a recorded run or one line that says what is wrong, no third way.

Seeded. FUZZ_SECONDS=600 goes on for that long, SEED=7 takes another path.
"""

import json
import math
import os
import random
import shutil
import time
import warnings

import common
from common import SCRIPTS

SEED = os.environ.get("SEED", "0")
ALPHABETS = ["abcdefghijklmnopqrstuvwxyz", "ab", "a", "AaÄäÉéßñ", "0123456789.-", "🦊🐻👩‍👧\u200d"]
ALPHABETS += ["日本語名前", "ابجد", " '-abc", ",\"';\\{}%$", "\x00\x01\x1b\x7fab", "\r\tab"]
ALPHABETS += ["\u2028\u2029\x85\x0b\x0cab", "\ufeffab", "\U0010ffff\ue000ab"]
VALUES = {  # of every flag: good values and bad ones; sizes stay small, as memory is the user's
    "--n-embd": ([4, 8, 16, 32], [0, -4, 3, 7, 2**31]),
    "--head-size": ([1, 4, 5, 8], [0, -1]),
    "--n-head": ([1, 2, 4], [0, -1, 3, 5, 2**31 - 1]),
    "--n-layer": ([1, 2], [0, -1, 2**31]),
    "--steps": ([1, 2, 3, 5], [0, -1, 2**31, 10**30]),
    "--batch-size": ([1, 2, 8, 33], [0, -5, 2**31]),
    "--eval-interval": ([1, 2, 3, 10**9], [0, -1]),
    "--seed": ([0, 1, 2**62, 2**63 - 1], [-1, 2**63, 2**64]),
    "--threads": ([1], [0, -1, 1025, 10**9]),
    "--warmup-steps": ([0, 1, 2, 10, 2**31 - 1], [-1, 2**31]),
    "--learning-rate": ([0, 1e-3, 1e-9, 0.1, 5e-324, 10, 1e4, 1e9], [-1, "nan", "inf", 1e308]),
    "--lr-decay-to": ([0, 0.1, 1], [-0.1, 1.1, "nan"]),
    "--weight-decay": ([0, 0.1, 1e-300, 1e3, 1e9], [-1, "inf", "nan", 1e300]),
    "--grad-clip": ([0, 1, 1e-30, 1e9], [-1, "inf", "nan"]),
    "--dropout": ([0, 0.1, 0.99], [1, -0.1, 2, "nan"]),
}
WORDS = ["", " ", "x", "-", "1.5", "ten", "0x10", "1_0", "١", "🦊", "%s", "{}", "a" * 5000]
WORDS += ["9" * 5000, "None", "-5", "--steps", "1e3"]
STRANGE = ["--step", "--bogus=1", "--no-record=1", "--device=tpu", "--results-dir", "--data"]


def some_data(rng):
    """The bytes of a data file."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.choice([0, 1, 5, 300]))
    chars = "".join(rng.sample(ALPHABETS, rng.choice([1, 1, 1, 2])))
    count = rng.choice([0, 1, 2, 3, 5, 14, 60])
    lines = ["".join(rng.choices(chars, k=rng.choice([0, 1, 2, 5, 9, 30]))) for _ in range(count)]
    if rng.random() < 0.2:
        lines += lines
    if rng.random() < 0.05:
        lines.append(rng.choice(chars) * rng.choice([300, 17_000]))
    end = rng.choice(["\n", "\n", "\n", "\r\n", "\n\n", " \n\t", "\r"])
    text = end.join(lines) + rng.choice(["", "\n", "\n\n \n"])
    blob = text.encode(rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-32"]))
    if rng.random() < 0.1 and blob:  # cut, or one byte another
        place = rng.randrange(len(blob))
        blob = blob[:place] + rng.choice([b"", rng.randbytes(1) + blob[place + 1 :]])
    return blob


def some_flags(rng, module):
    """A command line, and whether there is something wrong with it for sure."""
    knobs = {"--" + name.replace("_", "-") for name in module.Config.__dataclass_fields__}
    argv = "--steps 3 --batch-size 4 --eval-interval 2".split()
    argv += ["--n-layer", "1"] if "--n-layer" in knobs else []
    broken = False
    for _ in range(rng.choice([0, 1, 1, 2, 3, 6])):
        flag = rng.choice(list(VALUES))
        if flag not in knobs and rng.random() < 0.8:
            continue
        good, bad = VALUES[flag]
        kind = rng.random()
        value = str(rng.choice(good if kind < 0.8 else bad if kind < 0.93 else WORDS))
        broken |= flag not in knobs
        argv += [f"{flag}={value}"] if rng.random() < 0.3 else [flag, value]
    if rng.random() < 0.15:
        argv += rng.choice([["--validate"], ["--resume"], ["--device", "cpu"], ["--device=auto"]])
    if rng.random() < 0.1 and module.PRESETS:
        argv = ["--preset", rng.choice([*module.PRESETS, "none", ""]), *argv]
    if rng.random() < 0.07:
        argv.insert(rng.randrange(len(argv) + 1), rng.choice(WORDS[1:]))
    if rng.random() < 0.05:
        argv, broken = [*argv, rng.choice(STRANGE)], True
    return argv, broken


def rows_in(results):
    """How many rows the table has, which are whole, with figures that are numbers."""
    table = results / "results.csv"
    rows = common.read_table(table) if table.exists() else []
    for row in rows:
        figures = [float(row[key]) for key in ("train", "test", "test_from_2nd")]
        assert all(map(math.isfinite, figures))
        assert len(json.loads(row["samples"])) == 10
        assert json.loads(row["settings"])["seed"] == int(row["seed"])
    return len(rows)


def one_round(number, go, tmp_path):
    """The status of a random command on random data; it is checked that nothing else happened."""
    rng = random.Random(f"{SEED}-{number}")
    results = tmp_path / f"results{number // 50}"
    module = common.load(rng.choice(SCRIPTS))
    data = tmp_path / "fuzz.txt"
    data.write_bytes(some_data(rng) if rng.random() < 0.6 else b"anna\nbea\ncleo\ndora\neve\n" * 4)
    argv, broken = some_flags(rng, module)
    before = rows_in(results)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = go(module, *argv, data=data, small=False, results=results.name)
        if done.status == 0:
            assert done.err == "" and not broken
            assert "--resume" in argv or rows_in(results) == before + 1
        else:
            assert done.status in (1, 2) and common.one_error(done.err)
            assert rows_in(results) == before
        assert not list(results.rglob("*.tmp"))
    except BaseException as error:
        error.add_note(f"round {number}: {module.__file__} {argv} on {data.read_bytes()[:300]}")
        raise
    return done.status


def test_a_run_or_one_line_that_says_what_is_wrong(go, tmp_path):
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", 0))
    statuses = []
    while len(statuses) < 120 or time.monotonic() < end:
        number = len(statuses)
        if number % 50 == 0:  # a long run would leave thousands of files
            shutil.rmtree(tmp_path / f"results{number // 50 - 1}", ignore_errors=True)
        statuses.append(one_round(number, go, tmp_path))
    assert statuses.count(0) > len(statuses) / 5  # it does try both
    assert statuses.count(2) > len(statuses) / 10
