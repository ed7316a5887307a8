"""TensorBoard's files say what the record says, once."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdlib.experiments.logs import TensorBoardLog


def logged(folder):
    """Steps and values of every scalar."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, round(event.value, 4)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_curves_are_scalars_by_epoch(tmp_path):
    curves = {"loss": [3.0, 2.0], "soft targets": [1.0, 0.5], "test_accuracy": [0.25, 0.5]}
    with TensorBoardLog(tmp_path / "log") as log:
        write = log.curves()
        write({name: values[:1] for name, values in curves.items()})
        write(curves)
    assert logged(tmp_path / "log") == {
        "train/loss": [(1, 3.0), (2, 2.0)],
        "train/soft_targets": [(1, 1.0), (2, 0.5)],
        "test/accuracy": [(1, 0.25), (2, 0.5)],
    }


def test_a_test_every_third_epoch_is_at_its_epoch(tmp_path):
    with TensorBoardLog(tmp_path / "log") as log:
        log.curves(test_every=3)({"loss": [4.0] * 7, "test_accuracy": [0.25, 0.5]})
    assert logged(tmp_path / "log")["test/accuracy"] == [(3, 0.25), (6, 0.5)]


def test_a_second_sitting_writes_anew_what_the_checkpoint_has(tmp_path):
    """The first was killed after epoch 5, and its last checkpoint is of epoch 2."""
    with TensorBoardLog(tmp_path / "log") as log:
        log.curves()({"loss": [5.0, 4.0, 3.0, 2.0, 1.0]})
    with TensorBoardLog(tmp_path / "log") as log:
        write = log.curves()
        write({"loss": [5.0, 4.0]})
        write({"loss": [5.0, 4.0, 3.5]})
    assert logged(tmp_path / "log") == {"train/loss": [(1, 5.0), (2, 4.0), (3, 3.5)]}
    assert len(list((tmp_path / "log").iterdir())) == 1


def test_a_first_stage_has_a_group_of_its_own(tmp_path):
    with TensorBoardLog(tmp_path / "log") as log:
        log.curves("first-stage/")({"hints": [1.0]})
        log.curves()({"loss": [2.0]})
    assert set(logged(tmp_path / "log")) == {"first-stage/train/hints", "train/loss"}
