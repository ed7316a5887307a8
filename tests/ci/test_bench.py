"""The bench: its arithmetic, its parts one by one, and that both loops compute the same. Nothing is timed."""

from __future__ import annotations

import argparse
import copy
import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ci import bench, commands
from ci.__main__ import parser
from ci.bench import agreement, losses, plain, report, speed, variants, works
from ci.bench.report import Part, Rate, rate_lines
from ci.bench.variants import Clock, TimedSplit, prepared
from ci.bench.works import FIT, RUNGS, WORKS, Work
from ci.chapters import Repository
from kdlib import Attention, Distiller, HardLabels, SoftTargets, create_model, load_data


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each part replaced by one that notes its name and gives one row."""
    ran: list[str] = []

    def made(name: str) -> SimpleNamespace:
        def run(_: Repository) -> Part:
            ran.append(name.removeprefix("ci.bench."))
            return Part([f"table of {name}"], [{"value": len(ran)}])

        return SimpleNamespace(bench=run)

    monkeypatch.setattr(bench, "importlib", SimpleNamespace(import_module=made))
    return ran


def test_all_parts_run_unless_some_are_named_and_the_others_stay_in_the_file(
    repository: Repository, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    commands.run(repository.root, parser().parse_args(["bench"]))
    assert parts == ["commands", "pages", "speed", "losses", "agreement"]
    commands.run(repository.root, parser().parse_args(["bench", "--only", "agreement", "losses"]))
    assert parts[5:] == ["losses", "agreement"]
    result = json.loads((repository.build / "bench.json").read_text())
    assert {name: part["rows"][0]["value"] for name, part in result.items()} == {
        "commands": 1, "pages": 2, "speed": 3, "losses": 6, "agreement": 7,
    }  # fmt: skip
    assert result["speed"]["machine"] == report.describe_machine()
    assert "table of ci.bench.speed" in capsys.readouterr().out


def test_an_unknown_part_is_one_sentence_and_exit_code_2(
    repository: Repository, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run(repository.root, argparse.Namespace(command="bench", only=["sped"], keep=False)) == 2
    expected = "Unknown part 'sped': the parts are commands, pages, speed, losses, agreement.\n"
    assert capsys.readouterr().err == expected
    assert parts == []


def test_the_costs_of_losses_are_kept_if_asked_for(
    repository: Repository, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = repository.root / bench.KEPT
    commands.run(repository.root, parser().parse_args(["bench", "--only", "losses"]))
    assert not kept.exists()
    wrong = parser().parse_args(["bench", "--only", "speed", "--keep"])
    assert commands.run(repository.root, wrong) == 2
    expected = "--keep keeps the part losses, and --only names speed: add losses to it.\n"
    assert capsys.readouterr().err == expected
    commands.run(repository.root, parser().parse_args(["bench", "--only", "losses", "--keep"]))
    found = json.loads(kept.read_text())
    assert found["rows"] == [{"value": 2}]
    assert found["machine"]["torch"]
    assert found["measured"] == datetime.datetime.now(datetime.UTC).date().isoformat()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_ratio_is_the_median_over_rounds_that_were_side_by_side() -> None:
    slow, fast = Rate("plain", (10.0, 20.0, 40.0)), Rate("ours", (20.0, 80.0, 120.0))
    assert fast.times(slow) == 3.0, "and not 80 / 20"
    lines = rate_lines([slow, fast], {"ours": "4×"})
    assert lines[1].split() == ["plain", "20", "(10", "to", "40)", "1.00×"]
    assert lines[2].split() == ["ours", "80", "(20", "to", "120)", "3.00×", "4×"]


def test_the_faster_plain_loop_is_the_one_to_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    work = tiny(("a rung",))
    seconds = {"plain loop, 0 workers": 4.0, "plain loop, 2 workers": 2.0, "a rung": 1.0}

    @contextmanager
    def served(_context: Any, _work: str, variant: str, _folder: Path) -> Iterator[str]:
        yield variant

    monkeypatch.setattr(speed, "_served", served)
    monkeypatch.setattr(speed, "_ask", seconds.__getitem__)
    rates = speed.measure(work, Path(), rounds=2)
    images = work.steps * work.batch_size
    assert rates == [Rate("plain loop, 2 workers", (images / 2,) * 2), Rate("a rung", (images / 1.0,) * 2)]


def test_the_clock_runs_from_the_second_batch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    time = iter(range(100))
    monkeypatch.setattr(variants, "now", lambda: next(time))
    clock = Clock()
    assert list(clock.watch("abc")) == ["a", "b", "c"]
    assert clock.seconds() == 1, "asked for the time twice: after the first batch, and at the end"


def test_only_batches_that_are_trained_on_run_the_clock() -> None:
    train = load_data("digits").test
    timed = TimedSplit(**vars(train))
    list(timed.batches(200))
    with pytest.raises(AssertionError, match="no batch was watched"):
        timed.clock.seconds()
    list(timed.batches(200, seed=0, augment=True))
    assert timed.clock.seconds() > 0


def tiny(names: tuple[str, ...]) -> Work:
    return Work(
        "tiny", "resnet8", "resnet8", 32, 4, 2,
        (HardLabels(0.1), SoftTargets(0.9, temperature=4)), plain.distillation_loss, names, {},
    )  # fmt: skip


EAGER = [name for name, has in RUNGS.items() if "compiled" not in has]


@pytest.mark.parametrize("variant", ["plain loop, 0 workers", *EAGER, FIT])
def test_every_variant_trains_the_student_and_not_the_teacher(
    variant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[torch.nn.Module] = []

    def noted(work: Work) -> list[torch.nn.Module]:
        made.extend(works.networks(work))
        return made

    monkeypatch.setattr(variants, "networks", noted)
    with prepared(tiny((variant,)), variant, tmp_path) as one_round:
        before = [copy.deepcopy(network.state_dict()) for network in made]
        assert one_round() > 0
    changed = [
        any(not torch.equal(value, state[name]) for name, value in network.state_dict().items())
        for network, state in zip(made, before, strict=True)
    ]
    assert changed == [True, False]


@pytest.mark.parametrize(
    ("loss_of", "terms"),
    [
        (plain.distillation_loss, WORKS[0].terms),
        (plain.attention_loss, WORKS[1].terms),
    ],
)
def test_both_loops_compute_the_same_loss(loss_of: plain.Loss, terms: tuple[Any, ...]) -> None:
    student, teacher = (create_model("resnet8", 10, seed=seed) for seed in (1, 0))
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6)
    theirs = loss_of(student.train(), teacher.eval(), images, labels)
    ours, _ = Distiller(student, teacher, terms).connect(images)(images, labels)
    torch.testing.assert_close(ours, theirs)
    if len(terms) == 2 and isinstance(terms[1], Attention):
        assert not plain.with_maps(student, images)[0].isnan().any()
        assert not any(module._forward_hooks for module in student.modules())


def test_both_loops_see_pictures_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDLIB_DATA", raising=False)
    assert works.write_pictures(tmp_path, classes=2, each=8) == "made-up JPEG files of Caltech-101's size"
    image, label = plain.photographs(tmp_path)[0]
    assert (image.shape, label) == ((3, 224, 224), 0)
    work = Work("", "", "", 224, 2, 4, (), plain.distillation_loss, (), {})
    ours = works.our_data(work, tmp_path)
    assert len(ours) == (work.steps + 1) * work.batch_size
    both: list[dict[str, Any]] = [{}, {"seed": 0, "augment": True}]
    for options in both:
        assert next(ours.batches(2, **options)).images.shape == (2, 3, 224, 224)


def test_a_term_over_its_share_is_marked() -> None:
    lines, rows = losses.table(
        {"step": [0.1, 0.1], "small": [0.001, 0.003], "large": [0.004, 0.004]},
        {"step": [0.05, 0.05], "small": [0.001, 0.001], "large": [0.001, 0.001]},
    )
    assert "100 ms in a short run, 50 ms in a long one" in lines[0]
    assert lines[2].split() == ["small", "2.0", "ms", "(1.0", "to", "3.0)", "2.0%", "1.0", "ms", "2.0%"]
    assert lines[3].split()[-5:] == ["4.0%", "1.0", "ms", "2.0%", "over"]
    assert [row["name"] for row in rows] == ["step", "small", "large"]
    assert rows[2]["share of a long run"] == pytest.approx(0.02)
    assert [row["seconds in a long run"] for row in rows] == [0.05, 0.001, 0.001]


def test_every_term_of_the_library_is_in_the_table_and_has_a_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import kdlib.terms

    kinds = {
        kind.__name__
        for kind in vars(kdlib.terms).values()
        if isinstance(kind, type) and issubclass(kind, kdlib.terms.Term)
    }
    assert {type(term).__name__ for term in losses.terms()} == kinds - {"LayerTerm", "Term"}
    monkeypatch.setattr(losses, "BATCH", 4)
    monkeypatch.setattr(losses, "ROUNDS", 1)
    # All of the compiler but code generation, which takes minutes.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    part = losses.bench(Repository(Path()))
    assert len(part.rows) == 1 + len(losses.terms()) + len(losses.VARIANTS)
    assert all(row["seconds"] > 0 for row in part.rows)
    sizes = {row["name"]: row for row in part.rows if row["name"] != "step"}
    trained = {name for name, row in sizes.items() if row["weights"]}
    assert trained == {"vid", "review", "ofd", "crd"}, "those with connectors, where widths are equal"
    assert sizes["crd"]["weights"] == 2 * (64 + 1) * 128
    memory = 2 * losses.IMAGES * 128 * 4
    assert memory <= sizes["crd"]["kept"] < 1.1 * memory
    assert sizes["attention"]["kept"] == 0
    assert sizes["logit matching"]["kept a step"] < sizes["dist"]["kept a step"] < sizes["vid"]["kept a step"]


def test_shares_are_of_the_step_of_the_same_round() -> None:
    _, rows = losses.table(
        {"step": [0.1, 0.4, 0.1], "slow": [0.01, 0.04, 0.03]}, {"step": [0.1], "slow": [0.01]}
    )
    assert rows[1]["share"] == pytest.approx(0.1), "and not 0.03 / 0.1"


@pytest.mark.parametrize(("fast", "verdict"), [([0.52, 0.62, 0.72], "agree"), ([0.7, 0.8, 0.9], "DIFFER")])
def test_accuracies_agree_within_one_standard_deviation(fast: list[float], verdict: str) -> None:
    lines, rows = agreement.summary("title", "bf16-mixed", [0.5, 0.6, 0.7], fast)
    assert lines[-1].endswith(f"they {verdict}")
    assert rows[0]["deviation"] == pytest.approx(0.1)
    assert rows[0]["agrees"] is (verdict == "agree")


def test_the_plain_student_and_that_of_fit_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data("digits", size=16)
    small = type(data)(data.name, data.train.balanced(60), data.val, data.test)
    monkeypatch.setattr(agreement, "EPOCHS", 1)
    monkeypatch.setattr(agreement, "choose_precision", lambda *_: "32-true")
    teacher = agreement.network(small, "resnet8", seed=5)
    plainly = agreement.plainly(small, teacher, 3, torch.device("cpu"))
    monkeypatch.setattr(agreement, "fit", lambda *args, **options: fit32(*args, **options))
    quickly = agreement.quickly(small, teacher, 3)
    for ours, theirs in zip(quickly.parameters(), plainly.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def fit32(*args: Any, **options: Any) -> Any:
    """`fit` in float32."""
    from kdlib import fit

    return fit(*args, **options, precision="32-true")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux says what the processor can do")
def test_the_machine_is_told_as_the_system_tells_it() -> None:
    system = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = report.describe_machine()
    assert f": {found['processor']}\n" in system
    for name, flag in (("AMX", "amx_tile"), ("bfloat16 instructions", "avx512_bf16")):
        assert found[name] == ("yes" if f" {flag} " in system else "no")
    assert int(found["cores"]) <= system.count("processor\t")
