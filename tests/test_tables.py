"""The small tables: how a command puts its rows into one that others write to as well."""

import threading
from contextlib import suppress

import pytest
from lib import tables
from lib.tables import update_table

HEADER = "step,data,data_hash,model,context,discount,counts,seconds,train,test,test_from_2nd"
HEADER += ",test_unseen,test_error\n"
KEY = ["step", "data_hash"]


def make_row(data_hash, model="bigram", seconds=1.5, test=2.25, discount=""):
    """A row of ngram.csv as the command makes it."""
    row = dict.fromkeys(tables.TABLES["ngram.csv"], 2)
    row |= {"step": "train-2", "data": "x.txt", "data_hash": data_hash, "model": model}
    return row | {"seconds": seconds, "test": test, "discount": discount, "test_unseen": None}


def line(data_hash, model="bigram", seconds="1.5", test="2.25", discount=""):
    return f"train-2,x.txt,{data_hash},{model},2,{discount},2,{seconds},2,{test},2,,2\n"


@pytest.fixture
def update(tmp_path):
    """Updates a table in an empty project; returns its text."""
    path = tmp_path / "results" / "ngram.csv"
    path.parent.mkdir()

    def update(*rows, text=None, **options):
        if text is not None:
            path.write_text(text, "utf-8")
        update_table(tmp_path, path.name, KEY, rows, **options)
        return path.read_text("utf-8")

    update.root, update.path = tmp_path, path
    return update


def test_rows_keep_their_places_and_their_bytes(update):
    """Those of a key are replaced where its first one is; a new key goes to the end."""
    other = line("b", test="2.500000")  # as no command would write it
    before = HEADER + line("a") + line("a", "Kneser-Ney") + other + line("c") + line("a", "old")
    after = update(
        make_row("d"), make_row("a", test=3.0), make_row("a", "Kneser-Ney", 9.5), text=before
    )
    replaced = line("a", test="3.0") + line("a", "Kneser-Ney")
    assert after == HEADER + replaced + other + line("c") + line("d")


def test_a_row_that_differs_in_nothing_but_times_stays_as_it_is(update):
    before = HEADER + line("a") + line("b")
    assert update(make_row("b", seconds=7.0), make_row("a", seconds=8.0), text=before) == before
    assert update(make_row("a", seconds=7.0, test=2.5)) == HEADER + line(
        "a", seconds="7.0", test="2.5"
    ) + line("b")


def test_what_is_gone_is_taken_out(update):
    before = HEADER + line("a") + line("b") + line("c")
    after = update(make_row("c"), text=before, gone=lambda row: row["data_hash"] == "a")
    assert after == HEADER + line("b") + line("c")


def test_a_table_that_is_not_there_is_made_and_no_other_file_that_git_sees(update):
    assert update(make_row("a", discount=0.5)) == HEADER + line("a", discount="0.5")
    found = {path.relative_to(update.root / "results") for path in update.path.parent.rglob("*")}
    assert {path.parts[0] for path in found} == {"ngram.csv", "logs"}


def test_commands_side_by_side_lose_no_row(update, monkeypatch):
    """Each reads the table, and waits for the other to have read it too before it writes."""
    pytest.importorskip("fcntl")
    read, both_have_read = tables.numbered, threading.Barrier(2)

    def read_and_wait(*arguments):
        rows = read(*arguments)
        with suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.5)
        return rows

    monkeypatch.setattr(tables, "numbered", read_and_wait)
    threads = [threading.Thread(target=update, args=[make_row(key)]) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(update.path.read_text("utf-8").splitlines(True)[1:]) == [line("a"), line("b")]
