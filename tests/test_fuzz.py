"""Random data and command lines, valid and broken: success, or one line that says what is wrong; never half a row.

Seeded and bounded. FUZZ_SECONDS=600 goes on for that long, SEED=7 takes another path.
"""

import json, math, os, random, shutil, signal, time, warnings

import pytest

import common
from common import SCRIPTS

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz",
    "ab",
    "a",
    "AaÄäÉéßñ",
    "0123456789.-",
    "🦊🐻👩‍👧\u200d",
    "日本語名前",
    " '-abc",
    "\u2028\u2029\x85\x0b\x0cab",
    "\x00\x01\x1b\x7fab",
    ",\"';\\{}%$",
    "\ufeffab",
    "ابجد",
    "\U0010ffff\ue000ab",
    "\r\tab",
]
WHOLE = {  # flags that take whole numbers: some good values, some bad ones
    "--n-embd": ([4, 8, 16, 32], [0, -4, 3, 7, 10**6]),
    "--head-size": ([1, 4, 8, 5], [0, -1]),
    "--n-head": ([1, 2, 4], [0, -1, 3, 5, 2**31 - 1]),
    "--n-layer": ([0, 1, 2], [-1, 2**31]),
    "--steps": ([1, 2, 3, 5], [0, -1, 2**31, 10**30]),
    "--batch-size": ([1, 2, 8, 33], [0, -5, 2**31]),
    "--eval-interval": ([1, 2, 3, 10**9], [0, -1]),
    "--seed": ([0, 1, 2**62, 2**63 - 1], [-1, 2**63, 2**64]),
    "--threads": ([1], [0, -1, 1025, 10**9]),
    "--warmup-steps": ([0, 1, 2, 10, 2**31 - 1], [-1, 2**31]),
}
REAL = {
    "--learning-rate": (
        [1e-3, 1e-9, 0.1, 5e-324, 1e4],
        [0, -1, "nan", "inf", "-inf", 1e30, 1e308, "1e999"],
    ),
    "--lr-decay-to": ([0, 0.1, 1], [-0.1, 1.1, "nan"]),
    "--weight-decay": ([0, 0.1, 1e-300], [-1, "inf", "nan", 1e300]),
    "--grad-clip": ([0, 1, 1e-30, 1e30], [-1, "inf", "nan"]),
    "--dropout": ([0, 0.1, 0.999999], [1, -0.1, 2, "nan"]),
}
WORDS = [
    "",
    " ",
    "x",
    "-",
    "--",
    "1.5",
    "ten",
    "0x10",
    "1_0",
    "١",
    "🦊",
    "%s",
    "{}",
    "a" * 5000,
    "9" * 5000,
    "None",
    "-5",
    "--steps",
    "1e3",
]


def some_data(rng):
    """The bytes of a data file."""
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.choice([0, 1, 5, 300]))
    chars = "".join(rng.sample(ALPHABETS, rng.choice([1, 1, 1, 2])))
    lines = [
        "".join(rng.choices(chars, k=rng.choice([0, 1, 2, 5, 9, 30])))
        for _ in range(rng.choice([0, 1, 2, 3, 5, 14, 60]))
    ]
    if rng.random() < 0.2:
        lines += lines
    if rng.random() < 0.05:
        lines.append(rng.choice(chars) * rng.choice([17_000, 200_000]))
    text = rng.choice(["\n", "\n", "\n", "\r\n", "\n\n", " \n\t", "\r"]).join(lines) + rng.choice(
        ["", "\n", "\n\n \n"]
    )
    blob = text.encode(rng.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-32"]))
    if rng.random() < 0.1 and blob:
        place = rng.randrange(len(blob))
        blob = rng.choice(
            [
                blob[:place],
                blob[:place] + bytes([rng.randrange(256)]) + blob[place + 1 :],
                blob[place:],
            ]
        )
    return blob


def some_flags(rng, module):
    """A command line, most of it valid, and whether anything is wrong with it for sure."""
    knobs = {"--" + name.replace("_", "-") for name in module.Config.__dataclass_fields__}
    argv = ["--steps", "3", "--batch-size", "4", "--eval-interval", "2"] + (
        ["--n-layer", "1"] if "--n-layer" in knobs else []
    )
    broken = False
    for _ in range(rng.choice([0, 1, 1, 2, 3, 6])):
        flag = rng.choice([*WHOLE, *REAL])
        good, bad = (WHOLE | REAL)[flag]
        kind = rng.random()
        value = str(rng.choice(good if kind < 0.8 else bad if kind < 0.93 else WORDS))
        if flag not in knobs:
            if rng.random() < 0.8:
                continue
            broken = True
        argv += [f"{flag}={value}"] if rng.random() < 0.3 else [flag, value]
    if rng.random() < 0.1:
        argv += rng.choice(
            [["--validate"], ["--debug"], ["--resume"], ["--device", "cpu"], ["--device", "auto"]]
        )
    if rng.random() < 0.1 and module.PRESETS:
        argv += ["--preset", rng.choice([*module.PRESETS, "none", ""])] + argv[:8]
    if rng.random() < 0.07:
        argv.insert(rng.randrange(len(argv) + 1), rng.choice(WORDS[1:]))
    if rng.random() < 0.05:
        argv = argv[:-1] + [
            rng.choice(
                ["--step", "--bogus=1", "--no-record=1", "--device=tpu", "--results-dir", "--data"]
            )
        ]
        broken = True
    return argv, broken


def sound(results):
    """The rows of the table, all whole, with figures that are numbers."""
    table = results / "results.csv"
    if not table.exists() or not table.stat().st_size:
        return 0
    rows = common.read_table(table)
    for row in rows:
        for key in ("train", "test", "test_from_2nd"):
            assert math.isfinite(float(row[key])), row
        assert len(json.loads(row["samples"])) == 10 and json.loads(row["settings"])["seed"] == int(
            row["seed"]
        )
    return len(rows)


def rounds(least, share):
    """Numbers of rounds: `least` of them, or as many as fit in this share of FUZZ_SECONDS."""
    end = time.monotonic() + share * float(os.environ.get("FUZZ_SECONDS", 0))
    number = 0
    while number < least or time.monotonic() < end:
        yield number
        number += 1


def test_data_and_command_lines(go, tmp_path):
    seed, outcomes = os.environ.get("SEED", 0), []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in rounds(150, 0.9):
        for one in handlers.items():
            signal.signal(*one)  # Ctrl-C stops the fuzzing, not a run
        rng = random.Random(f"{seed}-{number}")
        results = tmp_path / f"results{number // 50}"
        if number % 50 == 0:
            shutil.rmtree(
                tmp_path / f"results{number // 50 - 1}", ignore_errors=True
            )  # thousands of files
        module = common.load(rng.choice(SCRIPTS))
        data = tmp_path / "fuzz.txt"
        blob = some_data(rng) if rng.random() < 0.6 else b"anna\nbea\ncleo\ndora\neve\n" * 4
        data.write_bytes(blob)
        argv, broken = some_flags(rng, module)
        report = f"round {number}: {module.__file__} {argv} on {blob[:200]}"
        before = sound(results)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of --debug
                done = go(module, *argv, data=data, small=False, results=results.name)
            if done.status == 0:
                assert done.err == "" and not broken, done.err
                assert "--resume" in argv or sound(results) == before + 1
            else:
                assert done.status in (1, 2) and common.one_error(done.err)
                assert sound(results) == before
            assert not list(results.rglob("*.tmp"))
        except BaseException as error:
            raise AssertionError(report) from error
        outcomes.append(done.status)
    assert (
        outcomes.count(0) > len(outcomes) / 5 and outcomes.count(2) > len(outcomes) / 10
    )  # it does try both


def test_items_of_any_text(tmp_path):
    """What load_data takes for items is what stands in the file, whatever the characters; tokens lead back to them."""
    module = common.load("train-2-baseline.py")
    for number in rounds(150, 0.1):
        rng = random.Random(f"{os.environ.get('SEED', 0)}-items-{number}")
        chars = "".join(rng.sample(ALPHABETS, 2)) + "xyz"
        items = [
            "".join(rng.choices(chars, k=rng.randint(1, 8))).strip()
            for _ in range(rng.randint(2, 40))
        ]
        items = [item for item in items if item and not item.startswith("\ufeff")] + ["xx", "yy"]
        end = rng.choice(["\n", "\r\n", " \n", "\n\n", "\n \t\r\n"])
        text = rng.choice(["", "\ufeff"]) + end.join(items) + rng.choice(["", end])
        path = tmp_path / "items.txt"
        path.write_bytes(text.encode("utf-8"))
        data = module.load_data(str(path), module.Config(), "cpu")
        assert sorted(data.train_items + data.test_items) == sorted(items), (number, text)
        assert len(data.train_items) == int(0.8 * len(items))
        for rows, part in ((data.train, data.train_items), (data.test, data.test_items)):
            back = [
                "".join(data.chars[token - 2] for token in row if token > 1)
                for row in rows.tolist()
            ]
            assert back == part, (number, text)
