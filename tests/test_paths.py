"""Paths as users write them, wherever one is taken: weights, checkpoints, exports, records, stores, `kd`."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from kdlib import create_model, fit, load_data
from kdlib.cli import app
from kdlib.data.catalogue import data_root
from kdlib.deploy.export import export_onnx, export_program, load_onnx, load_program
from kdlib.experiments import RunRecord, Store, results_folder
from kdlib.experiments.recipes import families
from kdlib.experiments.report.published import published_folder
from kdlib.paths import folder_from, given_path
from kdlib.schemes import stages
from kdlib.terms import HardLabels
from kdlib.training.state import load_weights, save_weights


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's home, in an otherwise empty folder in which we are."""
    (tmp_path / "home").mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("make", [str, Path])
def test_a_path_is_what_a_shell_would_make_of_it(home, kind, make):
    assert given_path(make("~/x.pt2"), kind) == home / "x.pt2"
    assert given_path(make("a/b"), kind) == Path("a/b")
    assert given_path(make(home / "~"), kind) == home / "~"


@pytest.mark.parametrize("written", ["~", "~/", "pets/", "pets//", "pets/.", "..", "home"])
def test_a_folder_is_no_file(home, written):
    with pytest.raises(ValueError, match="is a folder, and a file is meant; add the file's name"):
        given_path(written, "file")
    assert given_path(written, "folder") == Path(written).expanduser()


def test_a_file_is_no_folder(home):
    (home / "x").touch()
    with pytest.raises(ValueError, match="'~/x' is a file, and a folder is meant"):
        given_path("~/x", "folder")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_paths_that_name_nothing(kind):
    for written in ("", "  "):
        with pytest.raises(ValueError, match=f"the path of a {kind} is empty; give one"):
            given_path(written, kind)
    with pytest.raises(ValueError, match="'~nobody-here/x' begins with the home of nobody here"):
        given_path("~nobody-here/x", kind)


def small():
    return create_model("convnet", 10, in_channels=1, width=2, seed=0)


def record():
    return RunRecord(0, {}, {}, {}, {}, {}, "2026-11-29T00:00:00+00:00", 0.0)


def train(path):
    fit(small(), load_data("digits").val, epochs=1, progress=False, device="cpu", checkpoint=path)


def train_in_stages(path):
    images = load_data("digits").val
    stages(small(), None, [([HardLabels()], 1)], images, progress=False, device="cpu", checkpoint=path)


IMAGES = torch.zeros(2, 1, 8, 8)
WRITES = {
    "weights": lambda path: save_weights(small(), path),
    "checkpoint": train,
    "stages": train_in_stages,
    "program": lambda path: export_program(small(), path, IMAGES),
    "onnx": lambda path: export_onnx(small(), path, IMAGES),
    "record": lambda path: record().save(path),
}
READS = {
    "weights, read": lambda path: load_weights(small(), path),
    "program, read": load_program,
    "onnx, read": load_onnx,
    "record, read": RunRecord.load,
}


@pytest.mark.parametrize("use", [*WRITES.values(), *READS.values()], ids=[*WRITES, *READS])
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "the path of a file is empty"),
        ("pets/", "'pets/' is a folder, and a file is meant"),
        ("~", "'~' is a folder, and a file is meant"),
        ("pets/-student.pt2", "begins with a dash; .*leave out the slash before it"),
        ("~nobody-here/x", "begins with the home of nobody here"),
    ],
    ids=["empty", "slash", "folder", "dash", "nobody"],
)
def test_whatever_takes_a_file_refuses_what_is_none(home, use, written, message):
    (home.parent / "pets").mkdir()
    with pytest.raises(ValueError, match=message):
        use(written)
    assert sorted(home.parent.rglob("*")) == [home, home.parent / "pets"], "nothing was written"


def test_home_is_home_for_whatever_writes_and_reads(home):
    save_weights(small(), "~/x.safetensors")
    load_weights(small(), "~/x.safetensors")
    train("~/run.safetensors")
    train_in_stages("~/run.safetensors")
    assert export_program(small(), "~/x.pt2", IMAGES).path == home / "x.pt2"
    load_program("~/x.pt2")
    record().save("~/x.json")
    assert RunRecord.load("~/x.json") == record()
    names = {"x.safetensors", "run.safetensors", "run-1.safetensors", "x.pt2", "x.json"}
    assert {path.name for path in home.iterdir()} == names
    assert list(home.parent.iterdir()) == [home], "no folder is called ~"


FOLDERS = {
    "KDLIB_DATA": data_root, "KDLIB_RUNS": lambda: Store().root, "KDLIB_RESULTS": results_folder,
    "KDLIB_PUBLISHED": published_folder, "KDLIB_RECIPES": families,
}  # fmt: skip


@pytest.mark.parametrize(("variable", "use"), FOLDERS.items(), ids=FOLDERS)
def test_folders_from_the_environment(home, monkeypatch, variable, use):
    monkeypatch.delenv(variable, raising=False)
    default = use()
    monkeypatch.setenv(variable, "")
    assert use() == default, "a variable that is empty names nothing"
    (home / "mine").mkdir()
    (home / "mine" / "sources.toml").touch()
    monkeypatch.setenv(variable, "~/mine/")
    assert folder_from(variable) == home / "mine"
    assert use() == ([*default, "sources"] if variable == "KDLIB_RECIPES" else home / "mine")
    monkeypatch.setenv(variable, "~/mine/sources.toml")
    with pytest.raises(ValueError, match=r"sources\.toml' is a file, and a folder is meant"):
        use()


@pytest.mark.parametrize("take", [data_root, lambda root: Store(root).root])
def test_roots_that_are_given(home, take):
    assert take("~/x/") == home / "x"
    with pytest.raises(ValueError, match="the path of a folder is empty"):
        take("")


@pytest.mark.parametrize(
    "words",
    [
        ["verify", ""], ["verify", "~"], ["data", "list", "--root", ""],
        ["data", "check", "cifar10", "--root", "file"],
    ],
)  # fmt: skip
def test_kd_says_it_in_one_sentence(home, words):
    (home.parent / "file").touch()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
