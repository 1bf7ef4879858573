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


def decode(data, rows):
    """The names that rows of tokens stand for, which are boundary, characters, boundary, PAD."""
    items = []
    for row in rows.tolist():
        end = len(row) - row.count(PAD)
        assert row[0] == row[end - 1] == BOUNDARY
        assert row[end:] == [PAD] * (len(row) - end) and min(row[1 : end - 1]) >= 2
        items.append("".join(data.chars[token - 2] for token in row[1 : end - 1]))
    return items


PLAIN = "ann\nbo\ncarl\ndée\neve\nzoë\n"
VARIANTS = {
    "Windows line ends": PLAIN.replace("\n", "\r\n"),
    "old Mac line ends": PLAIN.replace("\n", "\r"),
    "mixed line ends": "ann\r\nbo\rcarl\ndée\n\reve\r\nzoë",
    "byte-order mark": "\ufeff" + PLAIN,
    "two files joined, with theirs": "\ufeffann\nbo\ncarl\n\ufeffdée\neve\nzoë\n",
    "blank lines": "\n\n \n" + PLAIN.replace("\n", "\n\t\n\n"),
    "outer white space": PLAIN.replace("\n", " \t\n \u00a0"),
    "decomposed": unicodedata.normalize("NFD", PLAIN),
    "one decomposed, one not": PLAIN.replace("dée", unicodedata.normalize("NFD", "dée")),
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
        ["a", "aa", "aaa", "a", "a"],
        ["🦊", "🦊🐻", "👩‍👧", "é🐻", "x"],
        ["Zoë", "Åsa", "R2-D2", "D.J.", "new york"],
        ["los\u2028angeles", "a\x0bb\x0cc", "d\x85e", "h\ti", "n\x1co"],  # these end no line
    ],
)
def test_names_and_tokens(items, read):
    content = "\n".join(items).encode()
    data = read(content)
    assert sorted(data.train_items + data.test_items) == sorted(items)
    assert decode(data, data.train) == data.train_items
    assert decode(data, data.test) == data.test_items
    assert data.chars == sorted(set("".join(items)))
    assert data.max_len == max(map(len, items)) + 1  # of an input: the boundary and the name
    assert data.train.shape == (4, data.max_len + 1) and data.test.shape == (1, data.max_len + 1)
    assert (data.name, data.hash) == ("data.txt", hashlib.sha256(content).hexdigest()[:12])


def test_the_split_is_by_line_and_follows_split_seed_alone(read):
    items = [f"item{i}" for i in range(101)]
    for settings, split_seed in (({}, 42), ({"seed": 1}, 42), ({"split_seed": 7}, 7)):
        order = items.copy()
        random.Random(split_seed).shuffle(order)
        data = read("\n".join(items).encode(), **settings)
        assert (data.train_items, data.test_items) == (order[:80], order[80:])


def test_validate_holds_out_the_last_tenth_of_the_training_lines(read):
    content = "\n".join(f"item{i}" for i in range(101)).encode()
    full, data = read(content), read(content, validate=True)
    assert data.train_items == full.train_items[:72]
    assert data.test_items == full.train_items[72:]
    assert decode(data, data.train) + decode(data, data.test) == full.train_items
    assert (data.chars, data.max_len) == (full.chars, full.max_len)  # so it is the same model


@pytest.mark.parametrize("count, validate", [(2, False), (13, True)])
def test_the_fewest_names_that_can_be_split(count, validate, read):
    data = read(b"ab\n" * count, validate=validate)
    assert data.train_items and data.test_items
    with pytest.raises(SystemExit, match="^error: .*too few"):
        read(b"ab\n" * (count - 1), validate=validate)


WRONG = {  # what is in the file, and what the message says of it
    "empty": (b"", "0 names"),
    "blank lines only": (b"\n \n\t\r\n\xef\xbb\xbf\n", "0 names"),
    "Latin-1": ("zoë\nåsa\n".encode("latin-1"), "UTF-8"),
    "UTF-16 with a mark": ("anna\nbea\n".encode("utf-16"), "UTF-8"),
    "UTF-16 without": ("anna\nbea\n".encode("utf-16-le"), "NUL"),
    "cut within a character": ("anna\nzoë".encode()[:-1], "UTF-8"),
    "one line too long": (b"anna\n" * 10 + b"x" * 1001 + b"\n", "1,001 characters"),
    "no line ends": (b"anna bea " * 20_000, "179,999 characters"),
}


@pytest.mark.parametrize("content, words", WRONG.values(), ids=WRONG)
def test_data_that_cannot_be_trained_on(content, words, go, names):
    names.write_bytes(content)
    done = go(BASE)
    message = common.one_error(done.err)
    assert (done.status, done.out) == (1, "") and words in message and str(names) in message
    assert not done.results.exists()


def test_a_line_of_the_most_characters_is_trained_on(read):
    assert read(b"anna\n" * 10 + b"x" * 1000).max_len == 1001


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
def clone(tmp_path, monkeypatch):
    """A fresh clone without names.txt; `answer` is what a download gives, or raises.

    What comes back: the script, its data folder, the requests for the file.
    """

    def make(answer=NAMES):
        folder, requests = tmp_path / "clone", []
        (folder / "data").mkdir(parents=True)
        shutil.copy(ROOT / BASE, folder)
        (folder / "data" / "sample-names.txt").write_bytes(SAMPLE)
        module = load(folder / BASE)

        def urlopen(url, timeout):
            requests.append(url)
            assert timeout <= 30  # a silent server does not hold the run up
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(read=lambda: answer)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        monkeypatch.setattr(module, "NAMES_SHA256", hashlib.sha256(NAMES).hexdigest())
        return module, folder / "data", requests

    return make


def notes(done):
    """The notes of a run, which must not have failed."""
    assert (done.status, done.err) == (0, "")
    return [line for line in done.out.splitlines() if line.startswith("note: ")]


def recorded(done):
    return [(row["data"], row["data_hash"]) for row in common.read_table(done.table)]


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_good_download_is_kept_and_not_asked_for_again(clone, go):
    module, folder, requests = clone()
    assert notes(go(module, data=None)) == []
    assert files(folder) == ["names.txt", "sample-names.txt"]
    assert (folder / "names.txt").read_bytes() == NAMES
    done = go(module, "--seed", 1, data=None)
    assert notes(done) == [] and requests == [module.NAMES_URL]
    assert recorded(done) == [("names.txt", module.NAMES_SHA256[:12])] * 2


def test_with_no_record_a_download_is_not_kept(clone, go):
    module, folder, requests = clone()
    done = go(module, "--no-record", data=None)
    assert notes(done) == [] and len(requests) == 1 and "names.txt: 60 names" in done.out
    assert files(folder) == ["sample-names.txt"] and not done.results.exists()


def test_a_good_download_that_cannot_be_kept_is_used(clone, go, monkeypatch):
    """A checkout that cannot be written to, as a note says; the sample is no better than it."""
    module, folder, _ = clone()
    write = type(folder).write_bytes

    def read_only(path, content):
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return write(path, content)

    monkeypatch.setattr(type(folder), "write_bytes", read_only)
    done = go(module, data=None)
    (note,) = notes(done)
    assert "keep names.txt" in note and "Permission denied" in note
    assert recorded(done) == [("names.txt", module.NAMES_SHA256[:12])]
    assert files(folder) == ["sample-names.txt"]


@pytest.mark.parametrize(
    "answer", [NAMES[::-1], NAMES[:90], b"", OSError("no route"), ValueError()]
)
def test_after_a_bad_download_it_trains_on_the_sample(answer, clone, go):
    """One line says so, and the run is recorded under the sample's name."""
    module, folder, _ = clone(answer)
    done = go(module, data=None)
    download, comparison = notes(done)
    assert "download" in download and "sample-names.txt" in download
    assert "compar" in comparison and files(folder) == ["sample-names.txt"]
    assert recorded(done) == [("sample-names.txt", hashlib.sha256(SAMPLE).hexdigest()[:12])]


def test_a_names_file_that_is_there_is_used_as_it_is(clone, go):
    """With another checksum it goes by its own hash, and a note says that it does not compare."""
    module, folder, requests = clone()
    mine = b"other\nnames\nof\nmine\nhere\n"
    (folder / "names.txt").write_bytes(mine)
    before = common.tree(folder)
    done = go(module, data=None)
    (note,) = notes(done)
    assert "compar" in note and not requests and common.tree(folder) == before
    assert recorded(done) == [("names.txt", hashlib.sha256(mine).hexdigest()[:12])]
