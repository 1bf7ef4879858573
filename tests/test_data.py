"""The Data section: what a name is, tokens, split, batches, memory, and where names come from."""

import hashlib
import os
import random
import shutil
import sys
import unicodedata
import urllib.request
from types import SimpleNamespace

import common
import pytest
import torch
from common import ROOT, load

PAD, BOUNDARY = 0, 1
BASE = "train-2-baseline.py"  # Data is the same in all eight


@pytest.fixture
def read(tmp_path):
    """load_data on these bytes."""

    def run(content, **settings):
        module, path = load(BASE), tmp_path / "data.txt"
        path.write_bytes(content)
        return module.load_data(path, module.Config(**settings), "cpu")

    return run


PLAIN = "ann\nbo\ncarl\ndée\neve\nzoë\n"
VARIANTS = {
    "Windows line ends": PLAIN.replace("\n", "\r\n"),
    "mixed line ends": "ann\r\nbo\rcarl\ndée\n\reve\r\nzoë",
    "byte-order marks": "\ufeffann\nbo\ncarl\n\ufeffdée\neve\nzoë\n",
    "blank lines, outer white space": "\n\n \n" + PLAIN.replace("\n", " \t\n\t\n \u00a0"),
    "one decomposed": PLAIN.replace("dée", unicodedata.normalize("NFD", "dée")),
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_what_nobody_sees_makes_no_difference(text, read):
    data, plain = read(text.encode()), read(PLAIN.encode())
    assert data.hash != plain.hash  # that of the file, as it is
    assert (data.train_items, data.test_items) == (plain.train_items, plain.test_items)
    assert data.chars == plain.chars and torch.equal(data.train, plain.train)


@pytest.mark.parametrize(
    "items",
    [
        ["ann", "bo", "carl", "ann", "eve"],
        ["🦊", "🦊🐻", "👩‍👧", "é🐻", "R2-D2 x"],
        ["los\u2028angeles", "a\x0bb\x0cc", "d\x85e", "h\ti", "n\x1co"],  # these end no line
    ],
)
def test_names_and_tokens(items, read):
    """Boundary, characters, boundary, PAD."""
    content = "\n".join(items).encode()
    data = read(content)
    assert sorted(data.train_items + data.test_items) == sorted(items)
    assert data.chars == sorted(set("".join(items)))
    assert data.max_len == max(map(len, items)) + 1  # of an input: the boundary and the name
    assert (data.name, data.hash) == ("data.txt", hashlib.sha256(content).hexdigest()[:12])
    for names, rows in ((data.train_items, data.train), (data.test_items, data.test)):
        for name, row in zip(names, rows.tolist(), strict=True):
            tokens = [BOUNDARY, *(data.chars.index(char) + 2 for char in name), BOUNDARY]
            assert row == tokens + [PAD] * (data.max_len + 1 - len(tokens))


def test_the_split_is_by_line_and_follows_split_seed_alone(read):
    """--validate holds out the last tenth of the training lines; it is the same model."""
    items = [f"item{i}" for i in range(101)]
    content = "\n".join(items).encode()
    for settings, split_seed in (({}, 42), ({"seed": 1}, 42), ({"split_seed": 7}, 7)):
        order = items.copy()
        random.Random(split_seed).shuffle(order)
        data = read(content, **settings)
        assert (data.train_items, data.test_items) == (order[:80], order[80:])
        held = read(content, **settings, validate=True)
        assert (held.train_items, held.test_items) == (order[:72], order[72:80])
        assert torch.equal(torch.cat([held.train, held.test]), data.train)
        assert (held.chars, held.max_len) == (data.chars, data.max_len)


@pytest.mark.parametrize("count, validate", [(2, False), (13, True)])
def test_the_fewest_names_that_can_be_split(count, validate, read):
    data = read(b"ab\n" * count, validate=validate)
    assert data.train_items and data.test_items
    with pytest.raises(SystemExit, match="^error: .*too few"):
        read(b"ab\n" * (count - 1), validate=validate)


WRONG = {  # what is in the file, and what the message says of it
    "blank lines only": (b"\n \n\t\r\n\xef\xbb\xbf\n", "0 names"),
    "Latin-1": ("zoë\nåsa\n".encode("latin-1"), "UTF-8"),
    "UTF-16": ("anna\nbea\n".encode("utf-16-le"), "NUL"),
    "cut within a character": ("anna\nzoë".encode()[:-1], "UTF-8"),
    "one line too long": (b"anna\n" * 10 + b"x" * 1001 + b"\n", "1,001 characters"),
}


@pytest.mark.parametrize("content, words", WRONG.values(), ids=WRONG)
def test_data_that_cannot_be_trained_on(content, words, go, names):
    names.write_bytes(content)
    done = go(BASE)
    message = common.one_error(done.err)
    assert (done.status, done.out) == (1, "") and words in message and str(names) in message
    assert not done.results.exists()


def test_one_seed_draws_the_same_batches_whatever_the_model(names):
    """By a generator of their own: the one of the weights has no part in it and is left alone."""
    drawn = []
    for script, other in ((BASE, 5), ("train-2.py", 99)):
        module = load(script)
        config = module.Config(steps=12, batch_size=5)
        data = module.load_data(names, config, "cpu")
        torch.manual_seed(other)
        before = torch.get_rng_state()
        drawn.append(module.draw_batches(data, config))
        assert torch.equal(torch.get_rng_state(), before)
    assert common.same(*drawn)
    config.seed = 1
    assert not torch.equal(module.draw_batches(data, config)[0], drawn[0][0])


def test_a_batch_is_drawn_with_replacement_and_cut_to_its_longest_name(read):
    module = load(BASE)
    data = read("".join("abcdefghij"[i % 10] * (1 + i * i % 9) + "\n" for i in range(50)).encode())
    rows, longest = module.draw_batches(data, module.Config(steps=100, batch_size=3))
    assert rows.shape == (100, 3) and set(rows.flatten().tolist()) == set(range(40))
    assert any(len(set(row)) < 3 for row in rows.tolist())
    for batch, length in zip(data.train[rows], longest, strict=True):
        assert (batch[:, length:] == PAD).all()  # nobody is cut
        assert (batch[:, length - 1] == BOUNDARY).any()  # no column of PAD alone


def test_memory_beside_the_tokens(tmp_path):
    """Of many short names and a long one: half as much again, and 200 MB for all the rest."""
    if sys.platform != "linux":
        pytest.skip("peak memory is read as Linux has it")
    path, (reader, writer) = tmp_path / "data.txt", os.pipe()
    path.write_text("".join(f"n{i % 997}\n" for i in range(40_000)) + "x" * 1000)
    module = load(BASE)
    if (child := os.fork()) == 0:  # its peak begins with what this process has now
        import resource

        status = 1
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            data = module.load_data(path, module.Config(), "cpu")
            model = module.Transformer(module.Config(), len(data.chars) + 2, data.max_len)
            module.draw_batches(data, module.Config(steps=2))
            module.final_losses(model, data)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            os.write(writer, f"{peak} {data.train.untyped_storage().nbytes()}".encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    peak, tokens = map(int, os.read(reader, 100).split())
    assert tokens > 300e6 and peak < 1.5 * tokens + 200e6, f"{peak:,} for {tokens:,} of tokens"


NAMES = "".join(f"{a}{b}{c}\n" for a in "kln" for b in "aeiou" for c in "mrst").encode()
SAMPLE = NAMES[:80]


@pytest.fixture
def clone(tmp_path, monkeypatch, go):
    """Run in a fresh clone without names.txt, on a download that gives `answer`, or raises it.

    What comes back: how often it was asked for, the notes, what the row says of the data, and what
    data/ holds besides the sample.
    """
    folder, requests = tmp_path / "clone", []
    (folder / "data").mkdir(parents=True)
    shutil.copy(ROOT / BASE, folder)
    (folder / "data" / "sample-names.txt").write_bytes(SAMPLE)

    def run(*argv, answer=NAMES):
        module = load(folder / BASE)

        def urlopen(url, timeout):
            requests.append(url)
            assert url == module.NAMES_URL and timeout <= 30  # a silent server is no reason to wait
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(read=lambda: answer)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        monkeypatch.setattr(module, "NAMES_SHA256", hashlib.sha256(NAMES).hexdigest())
        done = go(module, *argv, data=None)
        assert (done.status, done.err) == (0, "")
        rows = common.read_table(done.table) if done.table.exists() else []
        notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
        used = {(row["data"], row["data_hash"]) for row in rows}
        kept = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
        assert kept.pop("sample-names.txt") == SAMPLE
        return len(requests), notes, used, kept

    return run


USED = {("names.txt", hashlib.sha256(NAMES).hexdigest()[:12])}


def test_a_good_download_is_kept_and_not_asked_for_again(clone):
    """But not with --no-record."""
    assert clone("--no-record") == (1, [], set(), {})
    assert clone() == clone("--seed", 1) == (2, [], USED, {"names.txt": NAMES})


def test_a_good_download_that_cannot_be_kept_is_used(clone, tmp_path, monkeypatch):
    """A checkout that cannot be written to, as a note says; the sample is no better than it."""
    write = type(tmp_path).write_bytes

    def read_only(path, content):
        if path.parent.name == "data":
            raise PermissionError(13, "Permission denied", str(path))
        return write(path, content)

    monkeypatch.setattr(type(tmp_path), "write_bytes", read_only)
    _, (note,), *rest = clone()
    assert "keep names.txt" in note and "Permission denied" in note and rest == [USED, {}]


@pytest.mark.parametrize("answer", [NAMES[:90], b"", OSError("no route"), ValueError()])
def test_after_a_bad_download_it_trains_on_the_sample(answer, clone):
    """One line says so, and the run is recorded under the sample's name."""
    _, (download, comparison), *rest = clone(answer=answer)
    assert "download" in download and "sample-names.txt" in download and "compar" in comparison
    assert rest == [{("sample-names.txt", hashlib.sha256(SAMPLE).hexdigest()[:12])}, {}]


def test_a_names_file_that_is_there_is_used_as_it_is(clone, tmp_path):
    """With another checksum it goes by its own hash, and a note says that it does not compare."""
    mine = b"other\nnames\nof\nmine\nhere\n"
    (tmp_path / "clone" / "data" / "names.txt").write_bytes(mine)
    requests, (note,), *rest = clone()
    assert "compar" in note and not requests
    assert rest == [{("names.txt", hashlib.sha256(mine).hexdigest()[:12])}, {"names.txt": mine}]
