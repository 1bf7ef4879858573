"""results/reproduce.py: what it finds to do, and that failures, interruptions and Ctrl-C lose nothing."""

import csv, hashlib, json, os, re, select, shutil, signal, subprocess, sys

import pytest

from common import ROOT, one_error, read_table

sys.path.insert(0, str(ROOT / "results"))
import reproduce, scripts as tools

STUB = """
import csv, json, os, sys, time, types
from dataclasses import asdict, dataclass
from pathlib import Path
ROOT = Path(__file__).resolve().parent
SHA256 = "ab" * 32
PRESETS = {"big": {"knobs": {"n_embd": 64}}}
Transformer = None

@dataclass
class Config:
    n_embd: int = 32
    steps: int = 10
    seed: int = 0
    threads: int = 1

def source_hash(): return "source1"
def load_data(*_): return types.SimpleNamespace(hash=SHA256[:12])

def main():
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2] + [""]))
    preset, seed = flags.get("--preset", ""), int(flags["--seed"])
    with open(ROOT / "calls", "a") as file: file.write(" ".join([Path(__file__).name, *sys.argv[1:]]) + "\\n")
    BEHAVIOUR
    config = asdict(Config(**PRESETS[preset]["knobs"] if preset else {})) | {"seed": seed}
    row = dict(script=Path(__file__).name, preset=preset, overrides="", data_hash=SHA256[:12], seed=seed,
               device="cpu (stub)", source=source_hash(), settings=json.dumps(config))
    path = ROOT / "results" / "results.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file: csv.writer(file).writerows([*[row.keys()] * new, row.values()])

if __name__ == "__main__": main()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of its own, whose scripts end at once; one's behaviour is a line of Python in its main()."""
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(tools, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(tools, "STREAMED", ())  # the variants have tests of their own
    monkeypatch.setattr(tools, "BIGRAM", "")

    def add(name, behaviour="pass"):
        (tmp_path / name).write_text(STUB.replace("BEHAVIOUR", behaviour))
        return tmp_path / name

    add.root, add.table = tmp_path, tmp_path / "results" / "results.csv"
    add.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    return add


def planned(capsys, *argv):
    """What a dry run would do, without the interpreter and the folder."""
    capsys.readouterr()
    reproduce.main([*argv, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(sys.executable) for line in lines)
    return [line.split(" ", 1)[1].replace(f"{reproduce.ROOT}/", "") for line in lines]


def test_the_plan_holds_every_script_preset_and_seed_the_longest_first(project, capsys):
    project("train-2-a.py"), project("train-2-b.py")
    plan = planned(capsys, "--seeds", "2")
    assert sorted(plan) == sorted(
        f"train-2-{x}.py{preset} --seed {seed} --device cpu"
        for x in "ab"
        for preset in ("", " --preset big")
        for seed in (0, 1)
    )
    assert ["big" in line for line in plan] == [True] * 4 + [False] * 4
    assert (
        not (project.root / "calls").exists() and list((project.root / "results").iterdir()) == []
    )


def test_only_takes_a_script_with_its_presets_or_one_preset(project, capsys):
    project("train-2.py"), project("train-2-b.py")
    (project.root / "train-2-broken.py").write_text("(")  # not asked for, not loaded
    assert planned(capsys, "--only", "train-2-b.py --preset big") == [
        "train-2-b.py --preset big --seed 0 --device cpu"
    ]
    assert len(planned(capsys, "--only", "train-2-b.py")) == 2
    assert len(planned(capsys, "--only", "train-2-b.py", "--only", "train-2.py --preset big")) == 3


@pytest.mark.parametrize(
    "argv",
    (
        ["--only", "train-9.py"],
        ["--only", "train-2.py --preset small"],
        ["--seeds", "0"],
        ["--jobs", "0"],
        ["--seeds", "x"],
        ["--only", ""],
        ["--see", "1"],
    ),
)
def test_wrong_use_is_one_line(project, capsys, argv):
    project("train-2.py")
    with pytest.raises(SystemExit) as stop:
        reproduce.main([*argv, "--dry-run"])
    assert stop.value.code == 2
    one_error(capsys.readouterr().err)


def test_a_script_that_cannot_be_loaded_is_named(project, capsys):
    (project.root / "train-2-broken.py").write_text("import nothing_of_that_name")
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["--dry-run"])
    assert stop.value.code == 2 and "train-2-broken.py" in one_error(capsys.readouterr().err)


def test_what_it_ran_it_does_not_run_again_until_source_or_settings_change(project, capsys):
    path = project("train-2.py")
    reproduce.main(["--seeds", "2", "--jobs", "2"])
    assert len(project.calls()) == 4
    reproduce.main(["--seeds", "2"])
    assert len(project.calls()) == 4 and "0 of 4 runs to do" in capsys.readouterr().out
    assert len(planned(capsys, "--seeds", "3")) == 2
    text = path.read_text()
    path.write_text(text.replace("source1", "source2"))
    assert len(planned(capsys, "--seeds", "2")) == 4
    path.write_text(text.replace("n_embd: int = 32", "n_embd: int = 48"))  # the preset has its own
    assert planned(capsys) == ["train-2.py --seed 0 --device cpu"]
    path.write_text(text.replace("threads: int = 1", "threads: int = 2"))
    assert planned(capsys) == []


@pytest.mark.parametrize(
    "column, value",
    (
        ("overrides", "steps=5"),
        ("data_hash", "0" * 12),
        ("device", "cuda (x)"),
        ("script", "train-2-b.py"),
        ("preset", "big"),
        ("seed", "7"),
    ),
)
def test_only_canonical_rows_count(project, capsys, column, value):
    project("train-2.py")
    reproduce.main(["--only", "train-2.py"])
    with open(project.table, newline="") as file:
        rows = list(csv.DictReader(file))
    mine = next(row for row in rows if not row["preset"])
    mine[column] = value
    with open(project.table, "w", newline="") as file:
        writer = csv.DictWriter(file, mine.keys())
        writer.writeheader()
        writer.writerow(mine)
    assert "train-2.py --seed 0 --device cpu" in planned(capsys)


@pytest.mark.parametrize(
    "damage", ("train-2.py,,half a row\n", '"open quote\n', "\xff\n", "{row}{{bad json\n")
)
def test_a_broken_table_is_one_line_that_says_where(project, capsys, damage):
    project("train-2.py")
    reproduce.main(["--only", "train-2.py --preset big"])
    row = f"train-2.py,,,{'ab' * 6},0,cpu,source1,"
    with open(project.table, "ab") as file:
        file.write(damage.format(row=row).encode("latin-1"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        reproduce.main([])
    assert stop.value.code == 2 and "results.csv, line" in one_error(capsys.readouterr().err)
    assert len(project.calls()) == 1


@pytest.mark.parametrize("status", (1, 2))
def test_a_failed_run_stops_no_other_and_is_reported_with_its_log(project, capsys, status):
    project(
        "train-2-a.py",
        f'print("note"); print("what went wrong", file=sys.stderr); sys.exit({status})',
    )
    project("train-2-b.py")
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["--seeds", "2"])
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and "4 of 8 runs failed" in one_error(err)
    reported = [line for line in out.splitlines() if line.startswith(f"failed (status {status})")]
    assert len(reported) == 4 and all("what went wrong" in line for line in reported)
    log = project.root / "results" / "logs" / "train-2-a-big-seed1.log"
    assert (
        any(line.endswith(str(log)) for line in reported)
        and log.read_text() == "note\nwhat went wrong\n"
    )
    assert len(planned(capsys, "--seeds", "2", "--only", "train-2-b.py")) == 0


@pytest.mark.parametrize("refused", (False, True))
def test_a_run_with_a_checkpoint_is_resumed_or_where_that_is_refused_begun_again(
    project, capsys, refused
):
    project("train-2.py", f"if {refused} and '--resume' in sys.argv: sys.exit(2)")
    (project.root / "results" / "checkpoints").mkdir()
    (project.root / "results" / "checkpoints" / "train-2-seed1.pt").touch()
    assert not any(
        "resume" in line for line in planned(capsys, "--seeds", "2")
    )  # elsewhere there is no checkpoint
    reproduce.main(["--seeds", "2"])
    calls = [call for call in project.calls() if "big" not in call]
    fresh, resumed = "train-2.py --seed 1 --device cpu", "train-2.py --seed 1 --device cpu --resume"
    assert calls == ["train-2.py --seed 0 --device cpu", resumed, *[fresh] * refused]
    assert "failed" not in capsys.readouterr().out.replace("0 failed", "")
    assert planned(capsys, "--seeds", "2") == []


def test_a_run_that_fails_after_it_was_resumed_is_not_begun_again(project, capsys):
    project("train-2.py", "sys.exit(1)")
    (project.root / "results" / "checkpoints").mkdir()
    (project.root / "results" / "checkpoints" / "train-2-seed0.pt").touch()
    with pytest.raises(SystemExit) as stop:
        reproduce.main([])
    assert stop.value.code == 1 and len(project.calls()) == 2


def test_other_data_than_the_comparisons_is_refused_before_any_run(project, capsys):
    path = project("train-2.py")
    path.write_text(path.read_text().replace("hash=SHA256[:12]", "hash='other'"))
    with pytest.raises(SystemExit) as stop:
        reproduce.main([])
    assert stop.value.code == 2 and "names.txt" in one_error(capsys.readouterr().err)
    assert not (project.root / "calls").exists()


@pytest.mark.parametrize(
    "presets", ('{"big": {"knobs": {"n_embed": 64}}}', '{"big": {"n_embd": 64}}', '{"big": 64}')
)
def test_presets_in_the_making_are_refused_in_one_line(project, capsys, presets):
    path = project("train-2.py")
    path.write_text(path.read_text().replace('{"big": {"knobs": {"n_embd": 64}}}', presets))
    with pytest.raises(SystemExit) as stop:
        reproduce.main([])
    assert stop.value.code == 2 and "PRESETS of train-2.py" in one_error(capsys.readouterr().err)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_ctrl_c_ends_all_children_once_and_the_rest_is_left(project, number):
    """The children say that they are ready through a pipe, then wait for a signal and note which one it was."""
    project(
        "train-2-a.py",
        """import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, waited := {signal.SIGTERM, signal.SIGINT})
    open(ROOT / "pipe", "w").write("r")
    open(ROOT / "ended", "a").write(signal.sigwait(waited).name + " ")
    sys.exit(143)""",
    )
    os.mkfifo(project.root / "pipe")
    pipe = os.open(project.root / "pipe", os.O_RDWR)
    for name in ("reproduce.py", "scripts.py"):
        shutil.copy(ROOT / "results" / name, project.root / "results")
    process = subprocess.Popen(
        [sys.executable, "results/reproduce.py", "--seeds", "3", "--jobs", "2"],
        text=True,
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        for _ in range(2):
            assert select.select([pipe], [], [], 60)[0] and os.read(pipe, 1) == b"r"
        os.killpg(process.pid, number)  # as a terminal does it: to the whole group
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(pipe)
    assert process.returncode == 128 + number
    assert "6 of 6 runs left" in one_error(err)
    assert (project.root / "ended").read_text() == "SIGTERM SIGTERM "
    assert out.count("started") == 2 and not project.table.exists()


def add_real(project, names, *scripts):
    """Copies of real scripts, to whom a small file is names.txt and four steps are the default."""
    sha = hashlib.sha256(names.read_bytes()).hexdigest()
    (project.root / "data").mkdir()
    shutil.copy(names, project.root / "data" / "names.txt")
    for script in scripts:
        text = (ROOT / script).read_text("utf-8").replace("knob(5000,", "knob(4,")
        text, changed = re.subn("(?m)^SHA256 = .*", f'SHA256 = "{sha}"', text)
        (project.root / script).write_text(text, "utf-8")
        assert changed == 1


def test_with_a_real_script(project, names, capsys):
    """Its rows are recognised, and its checkpoints: without the row, the run is resumed rather than repeated."""
    add_real(project, names, "train-2-baseline.py")
    reproduce.main([])
    (row,) = read_table(project.table)
    assert (row["steps"], row["data"], row["overrides"]) == ("4", "names.txt", "")
    assert planned(capsys) == []
    project.table.unlink()
    reproduce.main([])
    assert "--resume" in capsys.readouterr().out and read_table(project.table) == [row]


# --- Variants ---
BASE, LAYERS, LAST = "train-2-baseline.py", "train-2-2head-4layer.py", "train-2.py"
BIGRAM = f"{LAYERS} --n-layer 0"
STREAMS = [f"results/stream.py {name}" for name in (BASE, LAST)]


@pytest.fixture
def variants(project, names, monkeypatch):
    """The project with real scripts that have variants; runs would be short, and on a small file."""
    monkeypatch.undo()  # the variants are those of the repository again
    monkeypatch.setattr(tools, "ROOT", project.root)
    monkeypatch.setattr(reproduce, "ROOT", project.root)
    monkeypatch.chdir(project.root)  # stream.py looks for a script where it is called, first
    add_real(project, names, BASE, "train-2-2head.py", LAYERS, LAST)
    for name in ("stream.py", "scripts.py"):
        shutil.copy(ROOT / "results" / name, project.root / "results")
    return project


def names_of(plan):
    return sorted(line.removesuffix(" --device cpu").rpartition(" --seed ")[0] for line in plan)


def test_the_plan_holds_the_variants(variants, capsys):
    presets = [f"{LAST} --preset {name}" for name in tools.load(LAST).PRESETS]
    plan = planned(capsys, "--seeds", "2")
    expected = [BASE, "train-2-2head.py", LAYERS, LAST, *presets, BIGRAM, *STREAMS]
    assert names_of(plan) == sorted(expected * 2)
    assert (
        f"{BIGRAM} --seed 1 --device cpu" in plan and f"{STREAMS[1]} --seed 1 --device cpu" in plan
    )


@pytest.mark.parametrize(
    "only, chosen",
    (
        ("results/stream.py", STREAMS),
        (STREAMS[1], STREAMS[1:]),
        (LAYERS, [LAYERS, BIGRAM]),
        (BIGRAM, [BIGRAM]),
        ("train-2-2head.py", ["train-2-2head.py"]),
        (BASE, [BASE]),
    ),
)
def test_only_takes_a_variant_or_a_script_with_its_own(variants, capsys, only, chosen):
    assert names_of(planned(capsys, "--only", only)) == sorted(chosen)


def test_only_the_last_script_takes_its_presets_and_no_stream(variants, capsys):
    chosen = names_of(planned(capsys, "--only", LAST))
    assert len(chosen) == 1 + len(tools.load(LAST).PRESETS) and all(
        name.startswith(LAST) for name in chosen
    )


@pytest.mark.parametrize(
    "only", ("results/stream.py train-2-2head.py", f"{LAYERS} --n-layer 1", "stream.py")
)
def test_only_a_variant_that_is_none(variants, capsys, only):
    with pytest.raises(SystemExit) as stop:
        reproduce.main(["--only", only, "--dry-run"])
    assert stop.value.code == 2 and only in one_error(capsys.readouterr().err)


def test_variants_are_run_and_recognised_as_done(variants, capsys):
    """With the settings of their rows, which are no preset's and no script's; their padded steps are not done then."""
    options = "--only", STREAMS[0], "--only", BIGRAM
    reproduce.main([*options, "--jobs", "2"])
    rows = {row["config"]: row for row in read_table(variants.table)}
    assert rows.keys() == {"4 layers", "baseline, stream"}
    streamed, layerless = rows["baseline, stream"], rows["4 layers"]
    assert (streamed["script"], streamed["preset"], streamed["overrides"]) == (BASE, "stream", "")
    assert (streamed["builds_on"], json.loads(streamed["settings"])["batch_size"]) == (BASE, 14)
    assert (layerless["script"], layerless["preset"], layerless["overrides"]) == (
        LAYERS,
        "",
        "n_layer=0",
    )
    assert {row["data"] for row in (streamed, layerless)} == {"names.txt"}
    assert planned(capsys, *options) == []
    assert names_of(planned(capsys, "--only", BASE, "--only", LAYERS)) == [LAYERS, BASE]
    variants.table.unlink()
    reproduce.main([*options])  # each finds its checkpoint, whatever the script calls it
    assert capsys.readouterr().out.count("--resume") == 2 and len(read_table(variants.table)) == 2


@pytest.mark.parametrize(
    "changes", ({"n_layer": 1}, {"source": "other"}, {"preset": "stream"}, {"overrides": ""})
)
def test_a_row_of_other_settings_is_not_the_variants(variants, capsys, changes):
    (target,) = tools.targets([BIGRAM])
    row = dict(
        script=LAYERS,
        preset="",
        overrides="n_layer=0",
        data_hash=target.module.SHA256[:12],
        seed=0,
        device="cpu (x)",
        source=target.module.source_hash(),
        settings=vars(target.module.Config(n_layer=0)),
    )

    def save(row):
        with open(variants.table, "w", newline="") as file:
            csv.writer(file).writerows(
                [row.keys(), (row | {"settings": json.dumps(row["settings"])}).values()]
            )

    save(row)
    assert planned(capsys, "--only", BIGRAM) == []
    save(
        row | changes if "n_layer" not in changes else row | {"settings": row["settings"] | changes}
    )
    assert names_of(planned(capsys, "--only", BIGRAM)) == [BIGRAM]


def test_a_streamed_row_of_other_windows_is_not_done(variants, capsys):
    """The hash of the script alone, which such rows had once, is not that of what was trained."""
    (target,) = tools.targets([STREAMS[0]])
    module, plain = target.module, tools.load(BASE)
    row = dict(
        script=BASE,
        preset="stream",
        overrides="",
        data_hash=plain.SHA256[:12],
        seed=0,
        device="cpu (x)",
        settings=json.dumps(vars(plain.Config(batch_size=14))),
    )
    for source, left in (module.source_hash(), []), (plain.source_hash(), STREAMS[:1]):
        with open(variants.table, "w", newline="") as file:
            csv.writer(file).writerows([[*row, "source"], [*row.values(), source]])
        assert names_of(planned(capsys, "--only", STREAMS[0])) == left
