"""Data and Files: what a name is, tokens, split, batches, and where names come from."""

import hashlib
import random
import re
import shutil
import unicodedata
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import common
import pytest
import torch
from common import ROOT, load

PAD, BOUNDARY = 0, 1
BASE = "train-2-baseline.py"  # Data and Files are the same in all eight


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
    "line ends of all kinds": "ann\r\nbo\rcarl\ndée\n\reve\r\nzoë",
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


WRONG = {  # what is in the file, and what the message says of it
    "one name": (b"anna\n", "too few"),
    "Latin-1": ("zoë\nåsa\n".encode("latin-1"), "UTF-8"),
    "UTF-16": ("anna\nbea\n".encode("utf-16-le"), "NUL"),
    "one line too long": (b"anna\n" * 10 + b"x" * 1001 + b"\n", "1,001 characters"),
    "a pointer to a list": (b"version https://git-lfs.github.com/spec/v1\n" * 3, "git lfs pull"),
}


@pytest.mark.parametrize("content, words", WRONG.values(), ids=WRONG)
def test_data_that_cannot_be_trained_on(content, words, go, names):
    names.write_bytes(content)
    done = go(BASE)
    message = common.one_error(done.err)
    assert (done.status, done.out) == (1, "") and words in message and str(names) in message
    assert not done.results.exists()


@pytest.mark.parametrize("old, new, note", [("\n", ",F,7\n", True), ("b", "b, ", False)])
def test_a_list_that_looks_like_a_table_gets_a_note(old, new, note, go, names):
    """It trains on whole lines all the same. A comma in some names makes no table."""
    names.write_text(names.read_text("utf-8").replace(old, new), "utf-8")
    done = go(BASE)
    (row,) = common.read_table(done.table)
    notes = [text for text in done.out.splitlines() if text.startswith("note: ")]
    assert len(notes) == 1 + note and ("table" in notes[0] and str(names) in notes[0]) == note
    assert "," in row["samples"]


def test_what_reaches_a_terminal_is_printable(go, tmp_path):
    """Whatever is in the names and in the name of the file: notes and errors too."""
    path = tmp_path / "to\x1b]0;mb\x07\x9bs.txt"
    names = ["\x1b[31mred,\x9b1m", "b\x07ell\x1b,\u202egnp", "\x1b\x1bc,x\x1b", "\x7fdel,\u200b"]
    for text, status in (("\n".join(names), 0), (names[0], 1), (names[0] * 200, 1)):
        path.write_text(text, "utf-8")
        done = go(BASE, data=path)
        assert done.status == status
        said = done.out + done.err
        assert [char for char in said if not char.isprintable() and char != "\n"] == []
        assert "to" in said and "mb" in said


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


NAMES = "".join(f"{a}{b}{c}\n" for a in "kln" for b in "aeiou" for c in "mrst").encode()
BUNDLED = NAMES[:80]


def named(file, content):
    """What a row says of its data: the file's name and hash."""
    return file, hashlib.sha256(content).hexdigest()[:12]


@pytest.fixture
def folder(tmp_path):
    """The data folder of a fresh clone: a small bundled list, and no names.txt."""
    path = tmp_path / "clone" / "data"
    path.mkdir(parents=True)
    (path / "sample-names.txt").write_bytes(BUNDLED)
    return path


@pytest.fixture
def train(folder, go, monkeypatch):
    """Train in the clone, with a download that gives `answer`, or raises it.

    Returns the notes, and what the table's rows say of their data.
    """
    shutil.copy(ROOT / BASE, folder.parent)

    def run(*argv, answer=NAMES):
        module = load(folder.parent / BASE)

        def urlopen(url, timeout):
            assert url == module.NAMES_URL and timeout <= 30
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(read=lambda: answer)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        monkeypatch.setattr(module, "NAMES_SHA256", hashlib.sha256(NAMES).hexdigest())
        done = go(module, *argv, data=None)
        assert (done.status, done.err) == (0, "")
        rows = common.read_table(done.table) if done.table.exists() else []
        notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
        return notes, [(row["data"], row["data_hash"]) for row in rows]

    return run


def test_a_good_download_is_used_and_kept(folder, train):
    """With --no-record it is used only."""
    used = named("names.txt", NAMES)
    assert train("--no-record") == ([], [])
    assert not (folder / "names.txt").exists()
    assert train() == ([], [used])
    assert (folder / "names.txt").read_bytes() == NAMES
    assert train("--seed", 1, answer=OSError("no route")) == ([], [used, used])


def test_a_good_download_that_cannot_be_kept_is_used(folder, train, monkeypatch):
    """The checkout is read-only, or the disk full; a note says so, and nothing is left over."""
    write = Path.write_bytes

    def fail(path, content):
        write(path, content[:9] if path.parent == folder else content)
        if path.parent == folder:
            raise OSError(13, "Denied or full", str(path))

    monkeypatch.setattr(Path, "write_bytes", fail)
    (note,), used = train()
    assert "keep names.txt" in note and "Denied or full" in note
    assert used == [named("names.txt", NAMES)]
    assert [path.name for path in folder.iterdir()] == ["sample-names.txt"]


@pytest.mark.parametrize("answer", [NAMES[:90], OSError("no route")])
def test_after_a_bad_download_it_trains_on_the_bundled_list(answer, folder, train):
    (download, comparison), used = train(answer=answer)
    assert "download" in download and "sample-names.txt" in download and "compar" in comparison
    assert used == [named("sample-names.txt", BUNDLED)]
    assert [path.name for path in folder.iterdir()] == ["sample-names.txt"], "nothing is left over"


def test_a_script_alone_in_an_empty_folder(folder, train, go):
    """Without a network it says in one line what to do; with one it makes the folder."""
    shutil.rmtree(folder)
    done = go(folder.parent / BASE, data=None)  # conftest.py cuts off the network
    message = common.one_error(done.err)
    assert done.status == 1 and "names.txt" in message and str(folder) in message
    assert [path.name for path in folder.parent.iterdir()] == [BASE] and not done.results.exists()
    assert train() == ([], [named("names.txt", NAMES)])
    assert (folder / "names.txt").read_bytes() == NAMES


def test_a_names_file_that_is_there_is_used_as_it_is(folder, train):
    """With another checksum, a note says that its losses do not compare."""
    mine = b"other\nnames\nof\nmine\nhere\n"
    (folder / "names.txt").write_bytes(mine)
    (note,), used = train()
    assert "compar" in note and used == [named("names.txt", mine)]
    assert (folder / "names.txt").read_bytes() == mine


def test_the_bundled_list(folder, train):
    """As its page says, and as its floor was found; a script trains on it without a network."""
    content = (ROOT / "data" / "sample-names.txt").read_bytes()
    lines = content.decode("utf-8").removesuffix("\n").split("\n")
    assert [line for line in lines if not re.fullmatch("[a-z]{1,15}", line)] == []
    digest = hashlib.sha256(content).hexdigest()
    assert digest in (ROOT / "data" / "README.md").read_text("utf-8")
    assert f"sample-names.txt,{digest[:12]}," in (ROOT / "results" / "floor.csv").read_text("utf-8")
    (folder / "sample-names.txt").write_bytes(content)
    _, used = train("--steps", 2, answer=OSError("no route"))
    assert used == [named("sample-names.txt", content)]
