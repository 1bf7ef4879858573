"""Random data and command lines: a recorded run or one line that says what is wrong, no third way.

Seeded. FUZZ=5000 tries as many, SEED=7 takes another path.
"""

import json
import math
import os
import random
import warnings

import common

SEED = os.environ.get("SEED", "0")
ALPHABETS = ["abcdefghijklmnopqrstuvwxyz", "a", "AaÄäÉéßñe\u0301", "0123456789.-", "🦊👩‍👧\u200d"]
ALPHABETS += ["日本語名前", "ابجد", " '-abc", ",\"';\\{}%$", "\x01\x1b\x7fab\x00", "\r\tab"]
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
    "--split-seed": ([0, 2**63 - 1], [-1, 2**63]),
    "--threads": ([1], [0, -1, 1025, 10**9]),
    "--warmup-steps": ([0, 1, 2, 10, 2**31 - 1], [-1, 2**31]),
    "--learning-rate": ([0, 1e-3, 0.1, 5e-324, 10, 1e4, 1e9], [-1, "nan", "inf", 1e308]),
    "--lr-decay-to": ([0, 0.1, 1], [-0.1, 1.1, "nan"]),
    "--weight-decay": ([0, 0.1, 1e-300, 1e9], [-1, "inf", "nan", 1e300]),
    "--grad-clip": ([0, 1, 1e-30, 1e9], [-1, "inf", "nan"]),
    "--dropout": ([0, 0.1, 0.99], [1, -0.1, "nan"]),
}
WORDS = ["", " ", "x", "-", "1.5", "0x10", "1_0", "١", "🦊", "%s", "{}", "a" * 5000, "9" * 5000]
OTHERS = [["--validate"], ["--resume"], ["--device=cpu"], ["--preset=fast"], ["--preset=none"]]
OTHERS += [["--step", "4"], ["--bogus=1"], ["--device=tpu"], ["--data"], ["-5"], ["--no-record=1"]]


def some_data(rng):
    """The bytes of a data file."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.choice([0, 1, 5, 300]))
    chars = "".join(rng.sample(ALPHABETS, rng.choice([1, 1, 1, 2])))
    count = rng.choice([0, 2, 3, 5, 14, 60])
    lines = ["".join(rng.choices(chars, k=rng.choice([0, 1, 2, 5, 9, 30]))) for _ in range(count)]
    if rng.random() < 0.05:
        lines.append(rng.choice(chars) * rng.choice([300, 17_000]))
    text = rng.choice(["\n", "\n", "\r\n", "\n\n", " \n\t", "\r"]).join(lines) + "\n"
    content = text.encode(rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le"]))
    return content[: rng.randrange(len(content))] if rng.random() < 0.1 else content


def some_flags(rng):
    argv = "--steps 3 --batch-size 4 --eval-interval 2".split()
    for _ in range(rng.choice([0, 1, 1, 2, 3, 6])):
        flag, (good, bad) = rng.choice(list(VALUES.items()))
        kind = rng.random()
        value = str(rng.choice(good if kind < 0.85 else bad if kind < 0.95 else WORDS))
        argv += [f"{flag}={value}"] if rng.random() < 0.3 else [flag, value]
    return argv + (rng.choice(OTHERS) if rng.random() < 0.2 else [])


def rows_in(results):
    """How many rows the table has, which are whole, with figures that are numbers."""
    table = results / "results.csv"
    rows = common.read_table(table) if table.exists() else []
    for row in rows:
        assert all(math.isfinite(float(row[key])) for key in ("train", "test", "test_from_2nd"))
        assert len(json.loads(row["samples"])) == 10 and json.loads(row["curve"])
    return len(rows)


def test_a_run_or_one_line_that_says_what_is_wrong(go, tmp_path):
    statuses = []
    for number in range(int(os.environ.get("FUZZ", 100))):
        rng, folder = random.Random(f"{SEED}-{number}"), f"results{number // 50}"
        script = rng.choice(["train-2-baseline.py", "train-2-2head-4layer.py", "train-2.py"])
        data, argv = tmp_path / "fuzz.txt", some_flags(rng)
        data.write_bytes(some_data(rng) if rng.random() < 0.6 else b"anna\nbea\ncleo\ndora\n" * 4)
        before = rows_in(tmp_path / folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = go(script, *argv, data=data, small=False, results=folder)
            after = rows_in(tmp_path / folder)
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
        statuses.append(done.status)
    assert all(statuses.count(status) > len(statuses) / 10 for status in (0, 1, 2))  # it tries all
