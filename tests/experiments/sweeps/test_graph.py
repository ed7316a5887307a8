"""The graph of a sweep, its marks, and what a run asks the engine for."""

import os

import pytest

from kdlib.experiments import Store, find_recipes, run_recipe
from kdlib.experiments.sweeps import Sweep, run_graph, run_sweep
from kdlib.experiments.sweeps.job import own_gpu


def test_every_run_is_there_once_and_after_what_it_needs():
    graph = run_graph(find_recipes("made/t*", "quick"), seeds=[0, 1])
    needs = {name: job.needs for name, job in graph.items()}
    assert needs["made/taught@0"] == ("made/teacher@100",)
    assert needs["made/tuned@1"] == ("made/teacher@100",)
    assert needs["made/taught-long@0"] == ("made/long-teacher@100",)
    assert "made/taught-again@0" not in needs, "its content is that of made/taught"
    names = list(graph)
    assert all(names.index(needed) < names.index(name) for name in names for needed in needs[name])
    assert names.count("made/teacher@100") == 1


def test_the_runs_of_all_families_fit_into_one_graph():
    graph = run_graph(find_recipes("*", "full"))
    digests = [(job.run.recipe.digest, job.run.seed) for job in graph.values()]
    assert len(set(digests)) == len(digests) > 200


def test_marks_follow_the_store(places):
    sweep = Sweep("made/taught", "quick", device="cpu")
    done = places / "done"
    (done / "made").mkdir(parents=True)
    (done / "made/taught@0").touch()  # of a run that somebody has removed since
    run_recipe(find_recipes("made/teacher", "quick")[0], 100, device="cpu", progress=False)
    sweep.mark(done)
    assert [path.name for path in (done / "made").iterdir()] == ["teacher@100"]
    assert sweep.unfinished() == ["made/taught@0"]
    assert run_graph(find_recipes("made/taught", "quick")).keys() == {"made/teacher@100", "made/taught@0"}


def test_a_sweep_is_the_same_behind_config():
    sweep = Sweep("made/*", "quick", (0, 7), "cpu", 5)
    assert Sweep.of(dict(entry.split("=") for entry in sweep.as_config())) == sweep
    assert Sweep.of({"pattern": "made/*", "profile": "full", "seeds": 3}).seeds == (3,)
    assert Sweep.of({"pattern": "made/*", "profile": "full"}) == Sweep("made/*", "full")


@pytest.mark.parametrize("missing", ["pattern", "profile"])
def test_a_config_without_is_told(missing):
    config = {"pattern": "made/*", "profile": "full"}
    del config[missing]
    with pytest.raises(ValueError, match=f"the sweep has no {missing}"):
        Sweep.of(config)


def test_full_asks_for_a_gpu_unless_it_is_for_the_cpu():
    assert Sweep("made/*", "full").resources["gpu"] == 1
    assert "gpu" not in Sweep("made/*", "full", device="cpu").resources
    assert "gpu" not in Sweep("made/*", "quick").resources


def test_no_gpu_where_one_is_needed(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="there is no GPU here, and every run of the profile 'full' asks"):
        run_sweep(Sweep("made/taught", "full"))


def test_an_engine_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr("kdlib.experiments.sweeps.engine.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"snakemake is not installed; pip install 'kdlib\[cluster\]'"):
        run_sweep(Sweep("made/taught", "quick"))
    monkeypatch.setattr(
        "kdlib.experiments.sweeps.engine.find_spec", lambda name: None if "kubernetes" in name else 1
    )
    with pytest.raises(ValueError, match="pip install 'snakemake-executor-plugin-kubernetes'"):
        run_sweep(Sweep("made/taught", "quick"), "kubernetes")


def test_no_slurm_here_is_told(monkeypatch):
    monkeypatch.setattr("kdlib.experiments.sweeps.engine.find_spec", lambda _: 1)
    monkeypatch.setattr("kdlib.experiments.sweeps.engine.shutil.which", lambda _: None)
    with pytest.raises(ValueError, match="there is no sbatch here"):
        run_sweep(Sweep("made/taught", "quick"), "slurm")


def test_two_jobs_have_two_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    shown = []
    with own_gpu(["2", "3"], tmp_path):
        shown.append(os.environ["CUDA_VISIBLE_DEVICES"])
        with own_gpu(["2", "3"], tmp_path):
            shown.append(os.environ["CUDA_VISIBLE_DEVICES"])
    with own_gpu(["2", "3"], tmp_path):
        shown.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert shown == ["2", "3", "2"]


def test_one_gpu_is_taken_as_it_is(tmp_path):
    with own_gpu(["0"], tmp_path), own_gpu(["0"], tmp_path):
        assert list(tmp_path.glob("kdlib-gpu-*")) == []


def test_nothing_is_kept_of_a_pattern_that_is_wrong():
    with pytest.raises(ValueError, match="made/nothing"):
        run_sweep(Sweep("made/nothing", "quick", device="cpu"))
    assert not (Store().root / "sweeps").exists()


def test_a_recipe_that_was_changed_is_another_run_than_the_teacher_of_its_name():
    graph = run_graph(
        find_recipes("made/ta*", "quick") + find_recipes("made/t*r", "quick", {"training.epochs": "1"})
    )
    unchanged, changed = [name for name in graph if name.startswith("made/teacher@100")]
    assert changed == f"{unchanged}-{graph[changed].run.recipe.digest}"
    assert graph[changed].run.recipe.training.epochs == 1
    assert graph["made/taught@0"].needs == (unchanged,)


def test_settings_of_a_sweep_go_behind_config_and_to_every_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"training.epochs": "1", "data.name": "folder:a b/c&d=e"}
    sweep = Sweep("made/taught", "quick", settings=settings)
    again = Sweep.of(dict(entry.split("=", 1) for entry in sweep.as_config()))
    assert again.settings == settings | {"data.name": f"folder:{tmp_path}/a b/c&d=e"}, "jobs run elsewhere"
    assert again.run_options[2:4] == ["--set", "training.epochs=1"]


def test_a_file_of_recipes_goes_behind_config_with_its_whole_path(places, monkeypatch):
    monkeypatch.chdir(places / "recipes")
    monkeypatch.delenv("KDLIB_RECIPES")
    sweep = Sweep("made.toml:taught", "quick")
    config = dict(entry.split("=", 1) for entry in sweep.as_config())
    assert config["pattern"] == f"{places}/recipes/made.toml:taught"
    assert list(Sweep.of(config).jobs) == ["made/teacher@100", "made/taught@0"]
