"""The Data section: what an item is, tokens, split, batches, and where the names come from."""

import hashlib
import http.server
import os
import random
import shutil
import socket
import threading
import urllib.request
from pathlib import Path

import common
import pytest
import torch
from common import ROOT, load

PAD, BOUNDARY = 0, 1


@pytest.fixture
def read(tmp_path):
    """load_data of the baseline on these bytes."""

    def run(blob, **knobs):
        module, path = load("train-2-baseline.py"), tmp_path / "data.txt"
        path.write_bytes(blob)
        return module.load_data(path, module.Config(**knobs), "cpu")

    return run


def decode(data, rows):
    """The items that rows of tokens stand for, which are boundary, characters, boundary, PAD."""
    items = []
    for row in rows.tolist():
        end = len(row) - row.count(PAD)
        assert row[0] == row[end - 1] == BOUNDARY
        assert row[end:] == [PAD] * (len(row) - end)
        assert min(row[1 : end - 1]) >= 2
        items.append("".join(data.chars[token - 2] for token in row[1 : end - 1]))
    return items


PLAIN = "ann\nbo\ncarl\ndee\neve\n"
VARIANTS = {
    "plain": (PLAIN, "ann bo carl dee eve"),
    "Windows line ends": (PLAIN.replace("\n", "\r\n"), "ann bo carl dee eve"),
    "byte-order mark": ("\ufeff" + PLAIN, "ann bo carl dee eve"),
    "blank lines": ("\n\n \n" + PLAIN.replace("\n", "\n\t\n\n"), "ann bo carl dee eve"),
    "outer white space": (PLAIN.replace("\n", " \t\n  "), "ann bo carl dee eve"),
    "one character": ("a\naa\naaa\naaaa\na\n", "a aa aaa aaaa a"),
    "emoji": ("🦊\n🦊🐻\n👩‍👧\né🐻\nx\n", "🦊 🦊🐻 👩‍👧 é🐻 x"),
    "capitals, digits, dots": ("Zoë\nÅsa\nR2-D2\nD.J.\nNúñez\n", "Zoë Åsa R2-D2 D.J. Núñez"),
    "the same name twice": ("ann\nann\nbo\nbo\nbo\n", "ann ann bo bo bo"),
}


@pytest.mark.parametrize("text, items", VARIANTS.values(), ids=VARIANTS)
def test_items_and_tokens(text, items, read):
    blob, items = text.encode("utf-8"), items.split()
    data = read(blob)
    assert sorted(data.train_items + data.test_items) == sorted(items)
    assert decode(data, data.train) == data.train_items
    assert decode(data, data.test) == data.test_items
    assert data.chars == sorted(set("".join(items)))
    assert data.max_len == max(map(len, items)) + 1  # of an input: the boundary and the item
    assert data.train.shape == (4, data.max_len + 1) and data.test.shape == (1, data.max_len + 1)
    assert data.train.dtype == torch.int64
    assert (data.name, data.hash) == ("data.txt", hashlib.sha256(blob).hexdigest()[:12])


def test_only_newlines_divide_items(read):
    """Inner spaces, U+2028, form feeds, carriage returns and the like are characters as others."""
    items = ["new york", "los\u2028angeles", "a\x0bb\x0cc", "d\x85e", "f\rg", "h\ti", "j\u00a0k"]
    items += ["l\x00m", "\x1b[1m", "n\x1co"]
    data = read("\n".join(items).encode("utf-8"))
    assert sorted(decode(data, data.train) + decode(data, data.test)) == sorted(items)


def test_the_split_is_by_line_and_the_same_for_every_seed(read):
    items = [f"item{i}" for i in range(101)]
    order = items.copy()
    random.Random(42).shuffle(order)
    for seed in (0, 1):
        data = read("\n".join(items).encode(), seed=seed)
        assert data.train_items == order[:80] and data.test_items == order[80:]


def test_validate_holds_out_the_last_tenth_of_the_training_lines(read):
    blob = "\n".join(f"item{i}" for i in range(101)).encode()
    full, data = read(blob), read(blob, validate=True)
    assert data.train_items == full.train_items[:72]
    assert data.test_items == full.train_items[72:]
    assert decode(data, data.train) + decode(data, data.test) == full.train_items
    assert (data.chars, data.max_len) == (full.chars, full.max_len)  # so it is the same model


@pytest.mark.parametrize("count, validate", [(2, False), (13, True)])
def test_the_fewest_items_that_can_be_split(count, validate, read):
    data = read(b"ab\n" * count, validate=validate)
    assert data.train_items and data.test_items
    with pytest.raises(load("train-2-baseline.py").Failure, match="too few"):
        read(b"ab\n" * (count - 1), validate=validate)


def test_the_real_file():
    """25,626 and 6,407 lines, and one test line in eight is in the training split as well."""
    module, path = load("train-2-baseline.py"), ROOT / "data" / "names.txt"
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != module.NAMES_SHA256:
        pytest.skip("data/names.txt is not here")
    data = module.load_data(None, module.Config(), "cpu")
    assert (len(data.train), len(data.test)) == (25_626, 6_407)
    assert (len(data.train_items), len(data.test_items)) == (25_626, 6_407)
    assert "".join(data.chars) == "abcdefghijklmnopqrstuvwxyz"
    assert (data.max_len, data.name) == (16, "names.txt")
    known = set(data.train_items)
    share = sum(item in known for item in data.test_items) / len(data.test_items)
    assert f"{share:.1%}" == "12.5%"


def test_every_script_draws_the_same_batches_for_the_same_seed(script, names):
    """By a generator of their own: the one of the weights has no part in it and is left alone."""
    first, module = load("train-2-baseline.py"), load(script)
    knobs = {"steps": 12, "batch_size": 5}
    data = first.load_data(names, first.Config(), "cpu")
    rows, longest = first.draw_batches(data, first.Config(**knobs))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    own_rows, own_longest = module.draw_batches(data, module.Config(**knobs))
    assert torch.equal(rows, own_rows) and longest == own_longest
    assert torch.equal(torch.get_rng_state(), before)
    other_rows, _ = module.draw_batches(data, module.Config(**knobs, seed=1))
    assert not torch.equal(rows, other_rows)


def test_a_batch_is_drawn_with_replacement_and_cut_to_its_longest_name(read):
    module = load("train-2-baseline.py")
    data = read("".join("abcdefghij"[i % 10] * (1 + i * i % 9) + "\n" for i in range(50)).encode())
    rows, longest = module.draw_batches(data, module.Config(steps=100, batch_size=3))
    assert rows.shape == (100, 3) and set(rows.flatten().tolist()) == set(range(40))
    for batch, length in zip(data.train[rows], longest, strict=True):
        assert (batch[:, length:] == PAD).all()  # nobody is cut
        assert (batch[:, length - 1] == BOUNDARY).any()  # no column of PAD alone
    assert len(set(longest)) > 1
    assert any(len(set(row)) < 3 for row in rows.tolist())


NAMES = "".join(f"{a}{b}{c}\n" for a in "kln" for b in "aeiou" for c in "mrst").encode()


def send(handler, body, length=None, status=200):
    handler.send_response(status)
    handler.send_header("Content-Length", str(length or len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A fresh clone without names.txt, which a server here would give it.

    What comes back: the script, its data folder, the requests that the server had.
    """
    servers = []

    def make(answer):
        folder, requests = tmp_path / "clone", []
        (folder / "data").mkdir(parents=True)
        shutil.copy(ROOT / "train-2-baseline.py", folder)
        (folder / "data" / "sample-names.txt").write_bytes(NAMES[:80])

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                answer(self)

            def log_message(self, *args):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        servers[-1].daemon_threads = True
        threading.Thread(target=servers[-1].serve_forever, args=[0.01]).start()
        module = load(folder / "train-2-baseline.py")
        url = f"http://127.0.0.1:{servers[-1].server_port}/names.txt"
        monkeypatch.setattr(module, "NAMES_URL", url)
        monkeypatch.setattr(module, "NAMES_SHA256", hashlib.sha256(NAMES).hexdigest())
        return module, folder / "data", requests

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def notes(done):
    return [line for line in done.out.splitlines() if line.startswith("note: ")]


def test_a_good_download_is_kept_and_not_asked_for_again(clone, go, monkeypatch):
    """It is moved into place whole: whoever looks meanwhile finds no names.txt, or all of it."""
    module, folder, requests = clone(lambda handler: send(handler, NAMES))
    moves, replace = [], os.replace

    def watched(source, target):
        moves.append((Path(source).parent, Path(source).read_bytes(), Path(target).exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    done = go(module, data=None)
    assert (done.status, len(requests), notes(done)) == (0, 1, [])
    assert moves[0] == (folder, NAMES, False)
    assert files(folder) == ["names.txt", "sample-names.txt"]
    assert (folder / "names.txt").read_bytes() == NAMES
    assert go(module, "--seed", 1, data=None).status == 0
    assert len(requests) == 1
    rows = common.read_table(done.table)
    recorded = [(row["data"], row["data_hash"]) for row in rows]
    assert recorded == [("names.txt", module.NAMES_SHA256[:12])] * 2


def test_with_no_record_a_download_is_not_kept(clone, go):
    module, folder, requests = clone(lambda handler: send(handler, NAMES))
    done = go(module, "--no-record", data=None)
    assert (done.status, len(requests)) == (0, 1) and "on names.txt" in done.out
    assert files(folder) == ["sample-names.txt"] and not done.results.exists()


def hang(handler):
    """Say nothing for as long as the other side stays."""
    handler.connection.recv(1)
    handler.close_connection = True


BAD = {
    "wrong checksum": lambda handler: send(handler, NAMES[::-1]),
    "cut half-way": lambda handler: send(handler, NAMES[:90], len(NAMES)),
    "not found": lambda handler: send(handler, NAMES, status=404),
    "silent": hang,
    "hangs up": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    "speaks no HTTP": lambda handler: handler.wfile.write(b"\x00\xff" * 100),
    "refuses": None,
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_after_a_bad_download_it_trains_on_the_sample(answer, clone, go, monkeypatch):
    """One line says so, and the run is recorded under the sample's name."""
    module, folder, requests = clone(answer)
    if answer is None:
        monkeypatch.setattr(module, "NAMES_URL", common.NOWHERE)
    urlopen, timeouts = urllib.request.urlopen, []

    def impatient(url, timeout):
        timeouts.append(timeout)
        return urlopen(url, timeout=0.2 if answer is hang else timeout)

    monkeypatch.setattr(urllib.request, "urlopen", impatient)
    done = go(module, data=None)
    assert (done.status, done.err, len(requests)) == (0, "", 1 if answer else 0)
    assert timeouts[0] <= 30  # a silent server does not hold the run up
    download, comparison = notes(done)
    assert "download" in download and "sample-names.txt" in download
    assert "sample-names.txt" in comparison
    assert files(folder) == ["sample-names.txt"]
    (row,) = common.read_table(done.table)
    sample = hashlib.sha256(NAMES[:80]).hexdigest()[:12]
    assert (row["data"], row["data_hash"]) == ("sample-names.txt", sample)


def test_a_names_file_that_is_there_is_used_as_it_is(clone, go):
    """With another checksum it goes by its own hash, and a note says that it does not compare."""
    module, folder, requests = clone(lambda handler: send(handler, NAMES))
    mine = b"other\nnames\nof\nmine\nhere\n"
    (folder / "names.txt").write_bytes(mine)
    before = common.tree(folder)
    done = go(module, data=None)
    assert (done.status, len(requests)) == (0, 0) and common.tree(folder) == before
    (note,) = notes(done)
    assert "names.txt" in note
    (row,) = common.read_table(done.table)
    assert (row["data"], row["data_hash"]) == ("names.txt", hashlib.sha256(mine).hexdigest()[:12])
