"""Random data and command lines: a recorded run or one line that says what is wrong, no third way.

Seeded. FUZZ=5000 tries as many, SEED=7 takes another path.
"""

import json
import math
import os
import random
import warnings

import common

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz",
    "AaÄäÉéßñe\u0301",
    "0123456789.-",
    "🦊👩‍👧\u200d",
    "日本語",
]
ALPHABETS += [",\"';\\{}%$", "\x01\x1b\x7fab\x00", "\r\tab\u2028\x85\x0b", "\ufeffab\U0010ffff"]
FLAGS = {  # good values and bad ones; sizes stay small, as memory is the user's
    "--n-embd": ([4, 8, 16, 32], [0, 3, 2**31]),
    "--head-size": ([1, 4, 5, 8], [0, -1]),
    "--n-head": ([1, 2, 4], [0, 3, 5, 2**31 - 1]),
    "--n-layer": ([1, 2], [0, 2**31]),
    "--steps": ([1, 2, 3, 5], [0, 2**31, "1e3", "9" * 5000]),
    "--batch-size": ([1, 2, 8, 33], [0, -5, ""]),
    "--eval-interval": ([1, 2, 3, 10**9], [0, "x"]),
    "--seed": ([0, 1, 2**63 - 1], [-1, 2**63]),
    "--split-seed": ([0, 2**63 - 1], [-1, 2**63]),
    "--warmup-steps": ([0, 1, 10, 2**31 - 1], [-1, 2**31]),
    "--learning-rate": ([0, 1e-3, 0.1, 5e-324, 10, 1e4, 1e9], [-1, "nan", "inf", 1e308]),
    "--weight-decay": ([0, 0.1, 1e-300, 1e9], [-1, "inf", "nan", 1e300]),
    "--grad-clip": ([0, 1, 1e-30, 1e9], [-1, "inf", "🦊"]),
    "--dropout": ([0, 0.1, 0.99], [1, "nan"]),
    "--device": (["cpu"], ["tpu", ""]),
    "--preset": (["fast"], ["none", "%s"]),
}


def some_data(rng):
    """The bytes of a data file."""
    chars = "".join(rng.sample(ALPHABETS, rng.choice([1, 1, 2])))
    count = rng.choice([0, 2, 3, 5, 14, 60])
    lines = ["".join(rng.choices(chars, k=rng.choice([0, 1, 2, 5, 9, 30]))) for _ in range(count)]
    text = rng.choice(["\n", "\n", "\r\n", "\n\n", " \n\t", "\r"]).join(lines) + "\n"
    content = text.encode(rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le"]))
    return content[: rng.randrange(len(content))] if rng.random() < 0.1 else content


def some_flags(rng):
    argv = "--steps=3 --batch-size=4 --eval-interval=2".split()
    for flag in rng.choices(list(FLAGS), k=rng.choice([0, 1, 1, 2, 3, 6])):
        good, bad = FLAGS[flag]
        argv.append(f"{flag}={rng.choice(good if rng.random() < 0.85 else bad)}")
    return argv + rng.choice([[]] * 8 + [["--validate"], ["--resume"]])


def rows_in(table):
    """How many rows the table has, which are whole, with figures that are numbers."""
    rows = common.read_table(table) if table.exists() else []
    for row in rows:
        assert all(math.isfinite(float(row[key])) for key in ("train", "test", "test_from_2nd"))
        assert len(json.loads(row["samples"])) == 10 and json.loads(row["curve"])
    return len(rows)


def test_a_run_or_one_line_that_says_what_is_wrong(go, tmp_path):
    statuses, before = [], 0
    for number in range(int(os.environ.get("FUZZ", 60))):
        rng = random.Random(f"{os.environ.get('SEED', 0)}-{number}")
        script = rng.choice(["train-2-baseline.py", "train-2-2head-4layer.py", "train-2.py"])
        data, argv = tmp_path / "fuzz.txt", some_flags(rng)
        data.write_bytes(some_data(rng) if rng.random() < 0.6 else b"anna\nbea\ncleo\ndora\n" * 4)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = go(script, *argv, data=data, small=False)
            after = rows_in(done.table)
            if done.status == 0:
                assert done.err == "" and (after == before + 1 or "--resume" in argv)
            elif done.status == 1:
                assert common.one_error(done.err) and after == before
            else:
                assert done.status == 2 and ": error: " in done.err.splitlines()[-1]
                assert done.out == "" and after == before
        except BaseException as error:
            error.add_note(f"{number}: {script} {argv} on {data.read_bytes()[:300]}")
            raise
        before = after
        statuses.append(done.status)
    assert all(statuses.count(status) > len(statuses) / 10 for status in (0, 1, 2))  # it tries all
