"""Two processes train what one does, up to the order of summation, where batch norm keeps its statistics.

This file is also what the two run: ``torchrun --nproc-per-node 2 test_distributed.py FOLDER`` computes every
case once, and each process writes what it got. Pytest computes the same cases alone, and compares.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from kdlib import (
    CRD,
    DIST,
    PKT,
    Attention,
    CorrelationCongruence,
    Distiller,
    HardLabels,
    Hints,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
    SoftTargets,
    create_model,
    fit,
    load_data,
    predict,
)
from kdlib.data import stream
from kdlib.metrics import accuracy
from kdlib.models import ShuffledTeacher
from kdlib.schemes import Mutual
from kdlib.terms import Term
from kdlib.training import DivergedError, distributed
from kdlib.training.distributed import shared_batches
from kdlib.training.fit import Plan
from kdlib.training.state import load_tensors, save_tensors

pytestmark = pytest.mark.xdist_group("two processes")  # which run once

PROCESSES = 2
LAYERS = ["layer1", "layer2", "layer3"]

# Batches of 13, 12, 12 and 12, so that the shares of the first differ.
IMAGES, BATCH = 49, 16
OPTIONS = {"batch_size": BATCH, "epochs": 2, "learning_rate": 1e-3, "device": "cpu", "progress": False}

# As a part of the way that the weights go. Summing in another order is 1e-4, until a ReLU that was next to 0
# falls on the other side: 0.013. Batches of 15 in place of 16 are 0.3 or more. The gradients' test is exact.
OFF_THE_WAY = 0.05


def images():
    return load_data("digits").train.balanced(IMAGES)


def scored():
    return load_data("digits").test.subset(range(101))


def network(name="resnet8", seed=0):
    """A network whose batch norms keep their statistics, which are of a share otherwise."""
    return with_norms_kept(following(name, seed))


def with_norms_kept(module):
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    return module


def following(name="resnet8", seed=0):
    return create_model(name, 10, in_channels=1, seed=seed)


def between_images():
    """One of each term that compares images with each other, and memory and modules of a term's own."""
    return [
        HardLabels(),
        SoftTargets(),
        DIST(),
        RKDDistance(1.0),
        RKDAngle(1.0),
        SimilarityPreserving(10.0, layers="layer3"),
        CorrelationCongruence(0.1),
        PKT(10.0),
        CRD(0.1, labels=images().labels, width=8, negatives=5),
        Hints(1.0, layers={"layer2": "layer2"}),
    ]


class Random(nn.Module):
    """A layer, a function and a module of torchvision that draw; and a note of what they draw every step."""

    def __init__(self, stops_after=-1):
        super().__init__()
        self.network, self.dropout = Stopped(stops_after), nn.Dropout(0.3)
        self.depth = StochasticDepth(0.5, "row")
        self.drawn = []

    def forward(self, pictures):
        if self.training:
            ones = torch.ones(20, 1)
            drawn = self.dropout(ones), self.depth(ones), functional.dropout(ones)
            self.drawn.append(torch.cat(drawn, dim=1))
        return functional.dropout(self.depth(self.dropout(self.network(pictures))), training=self.training)


class Drawing(Term):
    """A term of the whole batch that draws, which all processes have to do alike."""

    name = "drawing"
    needs_teacher = False
    compares_images = True

    def forward(self, outputs):
        return (outputs.student_logits * torch.rand(len(outputs.labels), 1)).square().mean()


OBJECTIVES = {
    "labels": lambda: network(),
    "soft-targets": lambda: Distiller(network(), network(seed=1), [HardLabels(), SoftTargets()]),
    "attention": lambda: Distiller(
        network(), network(seed=1), [HardLabels(), Attention(10.0, layers=LAYERS)]
    ),
    "between-images": lambda: Distiller(network(), network(seed=1), between_images()),
    # The weights behind layer 2 have no part in the loss.
    "hints-alone": lambda: Distiller(network(), network(seed=1), [Hints(layers=["layer2"])]),
    "mutual": lambda: Mutual(network(), network(seed=1), [HardLabels(), SoftTargets(temperature=1.0)]),
    "drawing": lambda: Distiller(network(), None, [HardLabels(), Drawing(0.1)]),
}


def trained(name, **options):
    """The weights, buffers and record of a case."""
    objective, curves = OBJECTIVES[name](), []
    record = fit(objective, images(), test=scored(), on_epoch=curves.append, **(OPTIONS | options))
    facts = {"epochs": record.epochs, "final": record.final, "processes": record.environment["processes"]}
    return objective.state_dict(), facts | {"on_epoch": len(curves)}


def gradients():
    """Of one step in float64, of the student and of what the terms train; and the buffers after it."""
    torch.manual_seed(0)
    distiller = Distiller(network(), network(seed=1), [*between_images(), Attention(10.0, layers=LAYERS)])
    batch = next(images().batches(7, part=distributed.shard()))
    distiller.double().connect(next(images().batches(2)).images.double())
    with_norms_kept(distiller.double())  # those of the regressor too
    with shared_batches(distiller, lambda: 7, lambda: (0,)):
        loss, _ = distiller(batch.images.double(), batch.labels, batch.indices)
        loss.backward()
    found = distributed.mean_over_ranks({"loss": loss})
    for path, weight in distiller.named_parameters():
        if distributed.world_size() > 1:
            torch.distributed.all_reduce(weight.grad)
        found[path] = weight.grad / distributed.world_size()
    return found | {path: value.detach() for path, value in distiller.named_buffers()}


class Stopped(nn.Module):
    """Ctrl-C that reaches the last process only, in the middle of its n-th step."""

    def __init__(self, steps):
        super().__init__()
        self.network, self.left = network(), steps

    def forward(self, pictures):
        if self.training:
            self.left -= 1
            if self.left == 0 and distributed.rank() == distributed.world_size() - 1:
                signal.raise_signal(signal.SIGINT)
        return self.network(pictures)


def stopped_and_resumed(folder):
    """What each process was told, and the weights of both sittings and of a run that was not stopped."""
    options = OPTIONS | {"checkpoint": folder / "stopped"}
    facts = {"said": refusal(lambda: fit(Stopped(3), images(), **options), KeyboardInterrupt)}
    distributed.from_rank_zero(lambda: (folder / "taken-up").write_bytes((folder / "stopped").read_bytes()))
    resumed, whole = Stopped(-1), Stopped(-1)
    fit(resumed, images(), **options)
    fit(whole, images(), **OPTIONS)
    return resumed.state_dict(), whole.state_dict(), facts


def drawn(stops_after=-1, seed=0, **options):
    """What random modules have drawn, step by step, and the weights that came of it."""
    model = Random(stops_after)
    distiller = Distiller(model, None, [HardLabels(), Drawing(0.1)])
    try:
        fit(distiller, images(), seed=seed, **(OPTIONS | options))
    except KeyboardInterrupt:
        assert model.network.left == 0
    return {"drawn": torch.stack(model.drawn)} | model.state_dict()


def one_step():
    """A network whose batch norms have seen one batch of 16."""
    return trained_on(images().subset(range(16)), epochs=1, seed=0)


def accuracies():
    """Of networks whose batch norms follow the images, by seed."""
    found = []
    for seed in range(3):
        model = trained_on(load_data("digits").train.balanced(200), epochs=10, seed=seed, learning_rate=0.05)
        found.append(accuracy(predict(model, scored(), device="cpu"), scored().labels))
    return {"accuracies": torch.tensor(found)}


def trained_on(data, seed, **options):
    model = following(seed=seed)
    fit(model, data, seed=seed, **(OPTIONS | options))
    return model


def refusal(attempt, error=ValueError):
    with pytest.raises(error) as caught:
        attempt()
    return str(caught.value)


def only_the_first_fails():
    raise ValueError(f"said by {distributed.rank()}")


def main(folder):
    """Every case, in each of the processes."""
    own = folder / str(distributed.rank())
    distributed.init_process_group()
    for name in OBJECTIVES:
        weights, facts = trained(name)
        save_tensors(own / name, weights, facts)
    save_tensors(own / "gradients", gradients(), {})
    resumed, whole, facts = stopped_and_resumed(folder)
    save_tensors(own / "resumed", resumed, facts)
    save_tensors(own / "whole", whole, {})
    save_tensors(own / "drawn", drawn(), {})
    save_tensors(own / "drawn with another seed", drawn(seed=1), {})
    save_tensors(own / "drawn until stopped", drawn(3, checkpoint=folder / "random"), {})
    distributed.from_rank_zero(
        lambda: (folder / "random-alone").write_bytes((folder / "random").read_bytes())
    )
    save_tensors(own / "drawn after", drawn(checkpoint=folder / "random"), {})
    save_tensors(own / "one step", one_step().state_dict(), {})
    save_tensors(own / "accuracies", accuracies(), {})
    logits = predict(network(), scored(), batch_size=20, device="cpu")
    save_tensors(own / "logits", {"logits": logits}, {})
    shuffled = Distiller(network(), ShuffledTeacher(network(seed=1)), [SoftTargets()])
    refused = {
        "diverged": refusal(
            lambda: fit(network(), images(), **(OPTIONS | {"learning_rate": 1e30})), DivergedError
        ),
        "shuffled": refusal(lambda: fit(shuffled, images(), **OPTIONS)),
        "first": refusal(lambda: distributed.from_rank_zero(only_the_first_fails)),
        "flags": list(distributed.any_rank(distributed.rank() == 1, False)),
    }
    (own / "refused.json").write_text(json.dumps(refused))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder with what two processes have computed."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, __file__, str(folder)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_end(found, expected, start):
    """Both trainings, from the same weights, come to the same place but for rounding."""
    assert found.keys() == expected.keys()
    names = [name for name in start if start[name].is_floating_point()]
    ends = [torch.cat([state[name].flatten() for name in names]) for state in (found, expected, start)]
    assert torch.dist(ends[0], ends[1]) < OFF_THE_WAY * torch.dist(ends[1], ends[2])


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.system
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_train_what_one_does(together, name):
    start = OBJECTIVES[name]().state_dict()
    expected, alone = trained(name)
    weights, facts = load_tensors(together / "0" / name)
    assert_same_end(weights, expected, start)
    torch.testing.assert_close(facts["epochs"], alone["epochs"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(facts["final"], alone["final"], rtol=1e-3, atol=1e-3)
    assert (facts["processes"], alone["processes"]) == (2, 1)


@pytest.mark.system
@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_end_with_the_same_bits(together, name):
    (first, said), (second, also_said) = (load_tensors(together / str(rank) / name) for rank in (0, 1))
    assert same(first, second)
    assert (said["epochs"], said["final"]) == (also_said["epochs"], also_said["final"])


@pytest.mark.system
def test_gradients_in_float64(together):
    """Every term, memory, module of a term and batch-norm statistic: seven images, as four and three."""
    expected = gradients()
    for rank in range(PROCESSES):
        found, _ = load_tensors(together / str(rank) / "gradients")
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.system
def test_batch_norm_on_a_cpu_takes_the_rows_of_its_process_and_the_first_ones_are_kept(together):
    model = following()
    batch = next(images().subset(range(16)).batches(16, seed=0, augment=True, part=(0, PROCESSES)))
    model.train()(batch.images)
    for rank in range(PROCESSES):
        found, _ = load_tensors(together / str(rank) / "one step")
        for name, value in model.named_buffers():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.system
def test_networks_whose_batch_norms_see_shares_are_as_good(together):
    """In the mean over three seeds, within what the seeds differ by."""
    found, alone = load_tensors(together / "0" / "accuracies")[0]["accuracies"], accuracies()["accuracies"]
    assert alone.min() > 0.5
    assert abs(found.mean() - alone.mean()) < max(found.std(), alone.std(), torch.tensor(0.02))


@pytest.mark.system
def test_weights_without_a_part_in_the_loss_stay(together):
    weights, _ = load_tensors(together / "0" / "hints-alone")
    assert torch.equal(weights["student.classifier.weight"], network().classifier.weight)


@pytest.mark.system
def test_every_test_image_is_scored_once_and_in_order(together):
    """101 images in batches of 20: the last has one, and one process none."""
    expected = predict(network(), scored(), device="cpu")
    for rank in range(PROCESSES):
        logits = load_tensors(together / str(rank) / "logits")[0]["logits"]
        assert logits.shape == (101, 10)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.system
def test_ctrl_c_at_one_stops_both_after_the_same_step(together):
    for rank in range(PROCESSES):
        said = load_tensors(together / str(rank) / "resumed")[1]["said"]
        assert said.startswith("stopped after step 3 of 4 in epoch 1 of 2, and kept in ")


@pytest.mark.system
def test_resumed_gives_the_same_bits_as_never_stopped(together):
    whole, _ = load_tensors(together / "0" / "whole")
    for rank in range(PROCESSES):
        assert same(load_tensors(together / str(rank) / "resumed")[0], whole)


@pytest.mark.system
def test_one_process_takes_up_what_two_began(together):
    whole, _ = load_tensors(together / "0" / "whole")
    resumed = Stopped(-1)
    fit(resumed, images(), checkpoint=together / "taken-up", **OPTIONS)
    assert_same_end(resumed.state_dict(), whole, Stopped(-1).state_dict())


@pytest.mark.system
def test_each_process_draws_its_own_numbers_anew_in_every_step(together):
    """Dropout, stochastic depth and functional dropout, of two processes, two seeds and eight steps."""
    found = [
        load_tensors(together / str(rank) / name)[0]["drawn"]
        for rank in range(PROCESSES)
        for name in ("drawn", "drawn with another seed")
    ]
    masks = torch.cat(found)
    assert masks.shape == (2 * PROCESSES * 8, 20, 3)
    for column in masks.unbind(2):
        assert len(column.unique(dim=0)) == len(masks)
    assert (masks == 0).float().mean(dim=(0, 1)).sub(torch.tensor([0.3, 0.5, 0.5])).abs().max() < 0.1


@pytest.mark.system
def test_random_modules_go_on_as_if_they_had_not_stopped(together):
    for rank in range(PROCESSES):
        whole, until, after = (
            load_tensors(together / str(rank) / name)[0]
            for name in ("drawn", "drawn until stopped", "drawn after")
        )
        assert torch.equal(torch.cat([until.pop("drawn"), after.pop("drawn")]), whole.pop("drawn"))
        assert same(after, whole)


@pytest.mark.system
def test_one_process_takes_up_a_random_run_of_two(together):
    assert len(drawn(checkpoint=together / "random-alone")["drawn"]) == 5


@pytest.mark.system
def test_only_the_first_speaks_and_writes(together):
    heard = [load_tensors(together / str(rank) / "labels")[1]["on_epoch"] for rank in range(PROCESSES)]
    assert heard == [3, 0]


@pytest.mark.system
def test_what_stops_one_stops_both(together):
    refused = [json.loads((together / str(rank) / "refused.json").read_text()) for rank in range(PROCESSES)]
    assert refused[0] == refused[1]
    assert "NaN" in refused[0]["diverged"] or "nan" in refused[0]["diverged"]
    assert refused[0]["shuffled"].startswith("ShuffledTeacher draws random numbers for a whole batch")
    assert refused[0]["first"] == "said by 0"
    assert refused[0]["flags"] == [True, False]


def test_a_batch_smaller_than_the_processes_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    three = {"train": images().subset(range(3)), "batch_size": BATCH, "seed": 0, "device": "cpu"}
    plan = Plan(**(dict.fromkeys(Plan._fields) | three))
    with pytest.raises(ValueError, match="a batch has 3 images, and there are 4 processes; give a larger"):
        next(plan.batches(0, 0))


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(distributed, "local_world_size", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="there are 8 processes and 2 GPUs on this machine; give"):
        distributed.local_gpu()


def test_processes_share_the_memory_for_pictures(monkeypatch):
    whole = stream.memory_budget(None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert stream.memory_budget(None) == whole // 4


def test_one_process_alone_agrees_with_itself():
    assert (distributed.world_size(), distributed.rank(), distributed.shard()) == (1, 0, (0, 1))
    assert distributed.is_rank_zero()
    assert distributed.any_rank(True, False) == (True, False)
    assert distributed.from_rank_zero(lambda: 5) == 5
    rows = torch.ones(3, 2)
    assert distributed.all_gather(rows, 3) is rows


def test_shares_of_a_batch_are_the_batch():
    whole = images()
    for batch, *parts in zip(
        *(
            whole.batches(BATCH, seed=0, epoch=1, augment=True, part=part)
            for part in ((0, 1), (0, 3), (1, 3), (2, 3))
        ),
        strict=True,
    ):
        for name in ("images", "labels", "indices"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
        sizes = [len(part.labels) for part in parts]
        assert max(sizes) - min(sizes) <= 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
