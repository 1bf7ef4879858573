"""The Data section: what is an item, tokens, split, batches, and where the names come from."""
import hashlib, http.server, json, random, shutil, socket, threading, urllib.request

import pytest, torch

import common
from common import ROOT, load

PAD, BOUNDARY = 0, 1


@pytest.fixture
def read(tmp_path):
    """load_data of the baseline on these bytes."""
    def run(blob, name="data.txt", **knobs):
        module, path = load("train-2-baseline.py"), tmp_path / name
        path.write_bytes(blob)
        return module.load_data(str(path), module.Config(**knobs), "cpu")
    return run


def decode(data, rows):
    """The items that rows of tokens stand for; asserts their form: boundary, characters, boundary, PAD."""
    items = []
    for row in rows.tolist():
        n = len(row) - row.count(PAD)
        assert row[0] == row[n - 1] == BOUNDARY and row[n:] == [PAD] * (len(row) - n) and n >= 3
        assert min(row[1:n - 1]) >= 2
        items.append("".join(data.chars[token - 2] for token in row[1:n - 1]))
    return items


# What is an item

PLAIN = "ann\nbo\ncarl\ndee\neve\n"
VARIANTS = {
    "plain": (PLAIN, "ann bo carl dee eve"),
    "no newline at the end": (PLAIN[:-1], "ann bo carl dee eve"),
    "Windows line ends": (PLAIN.replace("\n", "\r\n"), "ann bo carl dee eve"),
    "byte-order mark": ("\ufeff" + PLAIN, "ann bo carl dee eve"),
    "blank lines": ("\n\n \n" + PLAIN.replace("\n", "\n\t\n\n"), "ann bo carl dee eve"),
    "outer white space": (PLAIN.replace("\n", " \t\n  "), "ann bo carl dee eve"),
    "one character repeated": ("a\naa\naaa\naaaa\na\n", "a aa aaa aaaa a"),
    "emoji": ("🦊\n🦊🐻\n👩‍👧\né🐻\nx\n", "🦊 🦊🐻 👩‍👧 é🐻 x"),
    "capitals, accents, digits, dots": ("Zoë\nÅsa\nR2-D2\nD.J.\nNúñez\n", "Zoë Åsa R2-D2 D.J. Núñez"),
    "the same name twice": ("ann\nann\nbo\nbo\nbo\n", "ann ann bo bo bo"),
}


@pytest.mark.parametrize("text, items", VARIANTS.values(), ids=VARIANTS)
def test_items(text, items, read):
    items = items.split()
    data = read(text.encode("utf-8"))
    found = decode(data, data.train) + decode(data, data.test)
    assert sorted(found) == sorted(items) == sorted(data.train_items + data.test_items)
    assert found == data.train_items + data.test_items  # the rows stand in the order of the items
    assert data.chars == sorted(set("".join(items)))
    assert data.max_len == max(map(len, items)) + 1
    assert data.train.shape == (4, data.max_len + 1) and data.test.shape == (1, data.max_len + 1)
    assert data.train.dtype == torch.int64
    assert data.name == "data.txt" and data.hash == hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def test_only_newlines_divide_items(read):
    """Inner spaces, U+2028, form feeds, carriage returns and the like are characters as any other."""
    items = ["new york", "los\u2028angeles", "a\x0bb\x0cc", "d\x85e", "f\rg", "h\ti", "j\u00a0k", "l\x00m", "\x1b[1m", "n\x1co"]
    data = read("\n".join(items).encode("utf-8"))
    assert sorted(data.train_items + data.test_items) == sorted(items)
    assert sorted(decode(data, data.train) + decode(data, data.test)) == sorted(items)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_on_every_variant(name, go, tmp_path):
    text, items = VARIANTS[name]
    file = tmp_path / "variant.txt"
    file.write_bytes(text.encode("utf-8"))
    done = go("train-2.py", data=file)
    assert (done.status, done.err) == (0, "")
    row, = common.read_table(done.table)
    assert row["data"] == "variant.txt" and float(row["test"]) > 0
    assert set("".join(json.loads(row["samples"]))) <= set("".join(items.split()))


def test_a_run_on_strange_characters(go, tmp_path):
    file = tmp_path / "strange.txt"
    file.write_bytes("los\u2028angeles\na\rb\nc\x00d\n\"e,f\"\n'g;h\n\x1b[31m\n,\n".encode("utf-8"))
    done = go("train-2-2head.py", data=file)
    assert (done.status, done.err) == (0, "")
    common.read_table(done.table)
    done = go("train-2-2head.py", "--seed", 1, data=file)
    assert [row["seed"] for row in common.read_table(done.table)] == ["0", "1"]


def test_a_hundred_thousand_lines(go, tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("".join(f"{'abcdefgh'[i % 8]}{'xyz'[i % 3]}\n" for i in range(100_000)))
    done = go("train-2-baseline.py", data=file)
    assert done.status == 0 and len(common.read_table(done.table)) == 1


# Split

def test_the_split_is_by_line_and_has_its_own_generator(read):
    items = [f"item{i}" for i in range(101)]
    order = items.copy()
    random.Random(42).shuffle(order)
    random.seed(5)
    for seed in (0, 1):
        data = read("\n".join(items).encode(), seed=seed)
        assert data.train_items == order[:80] and data.test_items == order[80:]


def test_validate_holds_out_the_end_of_the_training_lines(read):
    items = [f"item{i}" for i in range(101)]
    full, data = read("\n".join(items).encode()), read("\n".join(items).encode(), validate=True)
    assert data.train_items == full.train_items[:72] and data.test_items == full.train_items[72:]
    assert decode(data, data.train) == data.train_items and decode(data, data.test) == data.test_items
    assert data.chars == full.chars and data.max_len == full.max_len  # so that it is the same model


@pytest.mark.parametrize("count, validate", [(2, False), (13, True)])
def test_the_fewest_items(count, validate, read):
    data = read(b"ab\n" * count, validate=validate)
    assert len(data.train_items) >= 1 and len(data.test_items) >= 1
    with pytest.raises(SystemExit):
        read(b"ab\n" * (count - 1), validate=validate)


def test_the_real_file():
    """Where names.txt is: 25,626 and 6,407 lines, and one test line in eight is in the training split as well."""
    path = ROOT / "data" / "names.txt"
    module = load("train-2-baseline.py")
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != module.SHA256:
        pytest.skip("data/names.txt is not here")
    data = module.load_data(None, module.Config(), "cpu")
    assert (len(data.train), len(data.test)) == (len(data.train_items), len(data.test_items)) == (25_626, 6_407)
    assert len(data.chars) + 2 == 28 and "".join(data.chars) == "abcdefghijklmnopqrstuvwxyz"
    assert data.max_len == 16 and data.name == "names.txt" and data.hash == module.SHA256[:12]
    known = set(data.train_items)
    assert round(100 * sum(item in known for item in data.test_items) / len(data.test_items), 1) == 12.5


def test_the_bundled_sample():
    names = (ROOT / "data" / "sample-names.txt").read_bytes().decode("ascii").split("\n")
    assert names.pop() == ""
    assert len(names) >= 2000 and len(set(names)) == len(names)
    assert all(name and set(name) <= set("abcdefghijklmnopqrstuvwxyz") for name in names)
    assert set("".join(names)) == set("abcdefghijklmnopqrstuvwxyz")
    assert len({len(name) for name in names}) >= 7 and len({name[0] for name in names}) == 26


# Batches

def drawn(module, data, first_step=0, **knobs):
    knobs = dict(steps=12, batch_size=5) | knobs
    return list(module.batches(data, module.Config(**knobs), first_step))


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for one, other in zip(a, b) for x, y in zip(one, other))


def test_the_batches_of_all_scripts_agree(names):
    modules = [load(path) for path in common.SCRIPTS]
    data = modules[0].load_data(str(names), modules[0].Config(), "cpu")
    first = drawn(modules[0], data)
    assert len(first) == 12
    for seed, module in enumerate(modules):
        torch.manual_seed(seed)  # the generator of the weights has no part in it
        before = torch.get_rng_state()
        other = module.load_data(str(names), module.Config(), "cpu")
        assert torch.equal(other.train, data.train) and torch.equal(other.test, data.test)
        assert equal(drawn(module, other), first), module.__name__
        assert torch.equal(torch.get_rng_state(), before)
    assert not equal(drawn(modules[0], data, seed=1), first)


def test_a_batch_holds_rows_cut_to_the_longest(read):
    module = load("train-2-baseline.py")
    data = read("".join("abcdefghij"[i % 10] * (1 + i * i % 9) + "\n" for i in range(50)).encode())
    items, widths = set(data.train_items), set()
    for inputs, targets in drawn(module, data, steps=100, batch_size=3):
        assert inputs.shape == targets.shape and len(inputs) == 3
        assert torch.equal(inputs[:, 1:], targets[:, :-1])  # the target is the next token
        assert (targets[:, -1] == BOUNDARY).any()  # no column of PAD alone
        assert set(decode(data, torch.cat([inputs, targets[:, -1:]], dim=1))) <= items  # and nobody is cut
        widths.add(inputs.size(1))
    assert len(widths) > 1


def test_rows_are_drawn_with_replacement_from_the_whole_split(read):
    module = load("train-2-baseline.py")
    data = read("".join(f"{i}\n" for i in range(100, 125)).encode())
    seen = [item for inputs, targets in drawn(module, data, steps=100, batch_size=8)
            for item in decode(data, torch.cat([inputs, targets[:, -1:]], dim=1))]
    assert set(seen) == set(data.train_items) and len(seen) == 800
    assert max(map(seen.count, set(seen))) < 100


def test_batches_of_a_resumed_run_and_of_a_compiled_one(names):
    module = load("train-2-baseline.py")
    data = module.load_data(str(names), module.Config(), "cpu")
    full = drawn(module, data)
    for first in (0, 1, 7, 12):
        assert equal(drawn(module, data, first), full[first:])
    for (inputs, targets), (wide, wide_targets) in zip(full, drawn(module, data, compile=True), strict=True):
        assert wide.size(1) == wide_targets.size(1) == data.max_len  # one shape for the CUDA graph
        n = inputs.size(1)
        assert torch.equal(wide_targets[:, :n], targets) and not wide_targets[:, n:].any()


# Where the names come from

NAMES = "".join(f"{a}{b}{c}\n" for a in "kln" for b in "aeiou" for c in "mrst").encode()


class Site:
    """A server on this machine that does what `answer` says; counts the requests."""
    def __init__(self, answer):
        self.requests = 0
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.requests += 1
                answer(self)

            def log_message(self, *args): pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/names.txt"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def send(handler, body, length=None, status=200):
    handler.send_response(status)
    handler.send_header("Content-Length", str(length or len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A fresh clone without names.txt, whose URL is a server here: (module, its data folder, the server)."""
    sites = []

    def make(answer, script="train-2-baseline.py"):
        folder = tmp_path / "clone"
        (folder / "data").mkdir(parents=True)
        shutil.copy(ROOT / script, folder / script)
        (folder / "data" / "sample-names.txt").write_bytes(NAMES[:80])
        site = Site(answer)
        sites.append(site)
        module = load(folder / script)
        monkeypatch.setattr(module, "URL", site.url)
        monkeypatch.setattr(module, "SHA256", hashlib.sha256(NAMES).hexdigest())
        return module, folder / "data", site

    yield make
    for site in sites: site.close()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_good_download_is_kept_and_not_asked_for_again(clone, go):
    module, folder, site = clone(lambda handler: send(handler, NAMES))
    done = go(module, data=None)
    assert done.status == 0 and site.requests == 1 and "note:" not in done.out
    assert files(folder) == ["names.txt", "sample-names.txt"] and (folder / "names.txt").read_bytes() == NAMES
    again = go(module, "--seed", 1, data=None)
    assert again.status == 0 and site.requests == 1
    rows = common.read_table(done.table)
    assert [(row["data"], row["data_hash"]) for row in rows] == [("names.txt", module.SHA256[:12])] * 2


def test_nothing_is_kept_with_no_record(clone, go):
    module, folder, site = clone(lambda handler: send(handler, NAMES))
    done = go(module, "--no-record", data=None)
    assert done.status == 0 and site.requests == 1 and "names.txt" in done.out
    assert files(folder) == ["sample-names.txt"] and not done.results.exists()


def hang(handler):
    """Accept, and say nothing for as long as the other side stays."""
    handler.connection.recv(1)
    handler.close_connection = True


BAD = {
    "wrong checksum": lambda handler: send(handler, NAMES[::-1]),
    "cut half-way": lambda handler: send(handler, NAMES[:len(NAMES) // 2], len(NAMES)),
    "cut short, as if whole": lambda handler: send(handler, NAMES[:len(NAMES) // 2]),
    "not found": lambda handler: send(handler, NAMES, status=404),
    "silent": hang,
    "hangs up": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    "speaks no HTTP": lambda handler: handler.wfile.write(b"\x00\xff\n\n" * 100),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_a_bad_download_falls_back_to_the_sample(answer, clone, go, monkeypatch):
    module, folder, site = clone(answer)
    urlopen = urllib.request.urlopen

    def impatient(url, *args, timeout=None, **keywords):
        assert timeout and timeout <= 30, "a silent server must not hold the run up"
        return urlopen(url, *args, timeout=0.2 if answer is hang else timeout, **keywords)

    monkeypatch.setattr(urllib.request, "urlopen", impatient)
    done = go(module, data=None)
    assert (done.status, done.err, site.requests) == (0, "", 1)
    note, header = done.out.splitlines()[:2]
    assert note.startswith("note: ") and "download" in note and "sample-names.txt" in note
    assert header.startswith(module.__file__.rpartition("/")[2]) and done.out.count("note: ") == 1
    assert files(folder) == ["sample-names.txt"]
    row, = common.read_table(done.table)
    assert row["data"] == "sample-names.txt" and row["data_hash"] == hashlib.sha256(NAMES[:80]).hexdigest()[:12]


def test_without_a_network_the_sample_is_used(clone, go, monkeypatch):
    module, folder, site = clone(None)
    monkeypatch.setattr(module, "URL", common.NOWHERE)
    done = go(module, data=None)
    assert (done.status, done.err) == (0, "")
    assert done.out.count("note: ") == 1 and "sample-names.txt" in done.out.splitlines()[0]
    assert common.read_table(done.table)[0]["data"] == "sample-names.txt"


def test_names_that_are_there_are_used_as_they_are(clone, go):
    module, folder, site = clone(lambda handler: send(handler, NAMES))
    mine = b"other\nnames\nof\nmine\nhere\n"
    (folder / "names.txt").write_bytes(mine)
    before = common.tree(folder)
    done = go(module, data=None)
    assert done.status == 0 and site.requests == 0 and common.tree(folder) == before
    row, = common.read_table(done.table)
    assert row["data"] == "names.txt" and row["data_hash"] == hashlib.sha256(mine).hexdigest()[:12]


def test_a_data_folder_that_cannot_be_written(clone, go, monkeypatch):
    """The download is used all the same."""
    module, folder, site = clone(lambda handler: send(handler, NAMES))
    replace = module.os.replace

    def full(source, target):
        if str(target).endswith("names.txt"): raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(module.os, "replace", full)
    done = go(module, data=None)
    assert (done.status, done.err) == (0, "") and "names.txt" in done.out
    assert files(folder) == ["sample-names.txt"]
    assert common.read_table(done.table)[0]["data"] == "names.txt"


def test_neither_names_nor_sample(clone, go):
    module, folder, site = clone(BAD["not found"])
    (folder / "sample-names.txt").unlink()
    done = go(module, data=None)
    assert done.status == 2 and "sample-names.txt" in common.one_error(done.err)
