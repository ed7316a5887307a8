"""The live figures as Python objects: what they accept, what they hand to a notebook and to a page."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from nbclient import NotebookClient
from scipy import stats

from kdlib import experiments, losses
from kdlib.course.figures import (
    AttentionFigure,
    BiasFigure,
    FeatureFigure,
    KLLossFigure,
    LiveFigure,
    PartsFigure,
    RelationFigure,
    SeedsFigure,
    SoftLabelFigure,
    TemperatureFigure,
    live,
)
from kdlib.course.figures.relation import COLOURS

NAMES = ("soft label", "temperature", "kl loss", "bias", "attention", "feature", "parts", "relation", "seeds")
IMAGES = np.zeros((2, 8, 8), dtype=np.uint8)
LOGITS = np.array([[3.0, 1.0, -2.0], [0.0, 2.0, 1.0]])
NAN = np.array([[3.0, np.nan, -2.0], [0.0, 2.0, 1.0]])


def embedded(page: str) -> dict:
    """The JSON that a figure's HTML carries."""
    found = re.search(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("name", NAMES)
def test_shows_as_a_widget_and_as_html(figure, name):
    data, _ = figure(name)._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert data["text/html"].startswith('<div class="kdlib-live">')
    assert data["text/plain"] == figure(name).alt_text()


@pytest.mark.parametrize("name", NAMES)
def test_html_is_the_same_each_time(figure, name):
    assert figure(name).page() == figure(name).page()


@pytest.mark.parametrize("name", NAMES)
def test_html_is_light_and_asks_for_nothing(figure, name):
    page = figure(name).page()
    assert len(page) < 130_000
    assert len(json.dumps(figure(name).state)) < 60_000
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"']+", page) == []


@pytest.mark.parametrize("name", NAMES)
def test_fallback_is_a_picture_that_says_its_finding(figure, name):
    page = figure(name).page()
    picture = re.search(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"', page)
    assert picture
    assert html.unescape(picture[1]) == figure(name).alt_text()
    assert re.search(r"\d", picture[1])
    png = base64.b64decode(picture[2])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 50_000


@pytest.mark.parametrize("name", NAMES)
def test_the_widget_and_the_page_share_one_module(figure, name):
    shown = figure(name)
    assert embedded(shown.page())["module"] == shown._esm
    assert "export default { render };" in shown._esm
    assert set(embedded(shown.page())["traits"]) == {"state", *shown.controls}


def test_class_names_cannot_break_out_of_the_html():
    nasty = '</script><b onclick="x">&$'
    page = TemperatureFigure(LOGITS, IMAGES, [0, 1], [nasty, "<!--", "c"]).page()
    assert "</script><b" not in page
    assert "<!--" not in page
    assert page.count("</script>") == 2
    assert embedded(page)["traits"]["state"]["classes"] == [nasty, "<!--", "c"]


def test_tensors_are_as_good_as_arrays():
    logits = torch.tensor(LOGITS, dtype=torch.float32, requires_grad=True)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    from_tensors = TemperatureFigure(logits, images, torch.tensor([0, 1]), ["a", "b", "c"])
    assert from_tensors.state == TemperatureFigure(LOGITS, IMAGES, [0, 1], ["a", "b", "c"]).state


def test_colour_images_keep_their_channels():
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    state = TemperatureFigure(LOGITS, images, [0, 1], ["a", "b", "c"]).state["images"]
    assert state["shape"] == [2, 4, 4, 3]
    assert list(base64.b64decode(state["bytes"])[:3]) == [0, 16, 32]


def test_many_images_stay_small():
    rng = np.random.default_rng(0)
    figure = BiasFigure(rng.normal(size=(6000, 10)), rng.integers(0, 10, 6000), 3, range(10))
    assert len(json.dumps(figure.state)) < 60_000


def test_kl_losses_and_gradients_are_torchs():
    student = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([2.0, 0.0, -1.0, 4.0], dtype=torch.float64)
    figure = KLLossFigure(student, teacher, 2, "abcd", temperature=3.0, soft_weight=0.7)
    hard = torch.nn.functional.cross_entropy(student[None], torch.tensor([2]))
    log_p, log_q = torch.log_softmax(teacher / 3, 0), torch.log_softmax(student / 3, 0)
    soft = 9 * torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True)
    (0.3 * hard + 0.7 * soft).backward()
    assert figure.losses()["hard"] == pytest.approx(hard.item())
    assert figure.losses()["soft"] == pytest.approx(soft.item())
    np.testing.assert_allclose(figure.gradients()["total"], student.grad)


def test_extreme_logits_have_finite_losses():
    figure = KLLossFigure([1000.0, -1000.0], [-1000.0, 1000.0], 1, "ab", temperature=0.5)
    assert figure.losses()["hard"] == pytest.approx(2000)
    assert figure.losses()["soft"] == pytest.approx(0.25 * 4000)
    assert "inf" not in figure.alt_text()


def test_a_teacher_that_is_certain_can_be_softened():
    figure = SoftLabelFigure(IMAGES, [0, 1], np.eye(3)[:2])
    assert json.dumps(figure.state, allow_nan=False)


def test_bias_shares_are_those_of_the_corrected_logits():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(300, 5)), rng.integers(0, 5, 300)
    figure = BiasFigure(logits, labels, 2, "abcde")
    predicted = (logits + 0.31 * np.eye(5)[2]).argmax(axis=1)
    right, missing = predicted == labels, labels == 2
    assert figure.shares(0.31) == pytest.approx((right[missing].mean(), right[~missing].mean(), right.mean()))


@pytest.mark.parametrize("shift", [-5.0, 0.0, 40.0])
def test_bias_slider_can_return_to_zero(shift):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 5)) - shift * np.eye(5)[2]
    biases = BiasFigure(logits, rng.integers(0, 5, 300), 2, "abcde").state["biases"]
    assert 0.0 in biases
    assert 90 < len(biases) < 260


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("p", [1.0, 2.0, 8.0])
def test_attention_losses_are_those_of_the_paper(form, p):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 3, 4, 4)), rng.normal(size=(2, 7, 4, 4))
    shown = AttentionFigure({"a": student}, {"a": teacher}, IMAGES, [0, 1], p=p)
    shown.example = 1
    maps = [(abs(f[1]) ** p).sum(axis=0) for f in (student, teacher)]
    gap = maps[0] / np.linalg.norm(maps[0]) - maps[1] / np.linalg.norm(maps[1])
    expected = {"code": (gap**2).mean(), "paper": np.linalg.norm(gap)}[form]
    assert shown.loss(form) == pytest.approx(expected, abs=1e-6)


def test_attention_maps_span_their_range_and_a_silent_layer_is_dark():
    features = np.zeros((2, 3, 4, 4))
    features[1, :, 2, 3] = [-2.0, 1.0, 0.5]
    shown = AttentionFigure({"a": features}, {"a": features}, IMAGES, ["one", "two"])
    packed = shown.state["maps"][0][0]
    maps = np.frombuffer(base64.b64decode(packed["bytes"]), dtype=np.uint8).reshape(packed["shape"])
    assert (maps[:, 0] == 0).all()
    assert (maps[:, 1] == 255 * (features[1, 0] != 0)).all()


def test_relation_losses_are_rkds():
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(size=(12, 7)))
    maps = torch.tensor(rng.normal(size=(2, 12, 2)))
    shown = RelationFigure(maps, features, np.zeros((12, 8, 8), np.uint8), [0] * 12, "ab", "xyz")
    for moment in (0, 1):
        expected = losses.rkd_distance_loss(maps[moment], features).item()
        assert shown.loss(moment) == pytest.approx(expected, abs=2e-3)


def test_relation_does_not_see_size_and_place():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6, 2))
    maps = [points, 100 * points + 7]
    shown = RelationFigure(maps, rng.normal(size=(6, 3)), np.zeros((6, 8, 8), np.uint8), [1] * 6, "ab", "xyz")
    assert shown.state["maps"][0] == shown.state["maps"][1]


def test_the_colours_of_classes_stand_out_from_light_and_from_dark():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05

    for colour in COLOURS:
        assert luminance("#ffffff") / luminance(colour) >= 3
        assert luminance(colour) / luminance("#14181e") >= 3


def test_many_relations_stay_small():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(80, 8, 8), dtype=np.uint8)
    shown = RelationFigure(
        rng.normal(size=(16, 80, 2)), rng.normal(size=(80, 128)), images, [0] * 80, range(16), "ab"
    )
    assert len(json.dumps(shown.state)) < 60_000


@pytest.mark.parametrize(("seeds", "order"), [(2, 0), (3, 0), (7, 5), (20, 5)])
def test_seeds_intervals_are_paired_differences(figure, seeds, order):
    shown = figure("seeds")
    shown.order = order
    values = [shown.state["differences"][0][i] for i in shown.state["orders"][order][:seeds]]
    expected = experiments.paired_difference(values, [0.0] * seeds)
    assert shown.interval(seeds) == pytest.approx((expected.mean, expected.low, expected.high), rel=1e-12)


def test_seeds_shares_are_those_of_all_groups():
    values = np.array([3.0, -1.0, 2.0, -2.5, 1.0, 0.5])
    shown = SeedsFigure({"a − b": values})
    groups = [values[list(group)] for group in itertools.combinations(range(6), 3)]
    wrong = np.mean([group.mean() < 0 for group in groups])
    clear = np.mean([stats.ttest_1samp(group, 0).pvalue < 0.05 for group in groups])
    assert shown.state["wrong"][0][1] == pytest.approx(wrong, abs=0.03)
    assert shown.state["clear"][0][1] == pytest.approx(clear, abs=0.03)
    assert shown.state["wrong"][0][-1] == 0


def test_all_seeds_say_the_same_in_any_order(figure):
    shown = figure("seeds")
    first = shown.interval(20)
    shown.order = 7
    assert shown.interval(20) == pytest.approx(first)
    assert shown.interval(4) != pytest.approx(first)


def test_controls_can_be_set_and_read():
    figure = TemperatureFigure(LOGITS, IMAGES, [0, 1], ["a", "b", "c"])
    figure.temperature, figure.example = 2.5, 1
    assert embedded(figure.page())["traits"]["temperature"] == 2.5
    assert "labelled b, at temperature 2.5" in figure.alt_text()


def test_classes_without_a_bar_of_their_own_share_one():
    logits = np.random.default_rng(0).normal(scale=2, size=(2, 30))
    names = [f"class {c}" for c in range(30)]
    shown = TemperatureFigure(logits, IMAGES, ["a cat", "a dog"], names, likeliest=4)
    assert "to an image of a cat, at temperature 4" in shown.alt_text()
    best = np.argsort(-logits[0])[:4]
    p = torch.softmax(torch.tensor(logits[0]) / 4, dim=0).numpy()
    figure = Figure()
    shown.draw(figure)
    probabilities = figure.axes[0]
    assert [label.get_text() for label in probabilities.get_yticklabels()] == [
        *(names[c] for c in best),
        "26 others",
    ]
    widths = [bar.get_width() for bar in probabilities.patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(widths, [*p[best], 1 - p[best].sum()], atol=1e-6)


def temperature_figure(logits=LOGITS, images=IMAGES, labels=(0, 1), classes="abc", **controls):
    return TemperatureFigure(logits, images, labels, classes, **controls)


def bias_figure(logits=LOGITS, labels=(0, 1), held_out_class=1):
    return BiasFigure(logits, labels, held_out_class, "abc")


def feature_figure(regressed=(2, 3, 4, 4, 4), steps=(0, 5), **controls):
    figure = FeatureFigure(
        np.ones((3, 4, 4, 4)), np.ones(regressed), np.zeros((3, 8, 8), np.uint8), [0, 1, 2], steps
    )
    for name, value in controls.items():
        setattr(figure, name, value)
    return figure


def test_feature_losses_are_the_hint_loss():
    rng = np.random.default_rng(0)
    teacher, regressed = rng.normal(size=(3, 4, 5, 5)), rng.normal(size=(2, 3, 4, 5, 5))
    shown = FeatureFigure(teacher, regressed, np.zeros((3, 8, 8), np.uint8), [0, 1, 2], [0, 5])
    for moment in (0, 1):
        expected = losses.hint_loss(torch.tensor(regressed[moment]), torch.tensor(teacher)).item()
        assert shown.state["losses"][moment] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("temperature", "surer"), [(1, 0), (4, 0), (4, 12), (10, -8)])
def test_the_parts_add_up_to_soft_targets(figure, temperature, surer):
    shown = figure("parts")
    shown.example, shown.temperature, shown.surer = 3, temperature, surer
    student = torch.tensor(shown.state["student"][3:4], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(shown.state["teacher"][3:4], dtype=torch.float64)
    teacher[0, 3] += surer
    label = torch.tensor([3])
    for name, (alpha, beta) in {"label": (1, 0), "others": (0, shown.others_weight())}.items():
        part = losses.dkd_loss(student, teacher, label, alpha, beta, temperature)
        (expected,) = torch.autograd.grad(part, student)
        np.testing.assert_allclose(shown.gradients()[name], expected[0], atol=1e-9)
    (expected,) = torch.autograd.grad(losses.soft_target_loss(student, teacher, temperature), student)
    np.testing.assert_allclose(shown.gradients()["total"], expected[0], atol=1e-9)


def test_a_surer_teacher_says_the_same_of_the_other_classes(figure):
    shown = figure("parts")
    before, weight = shown.others()["t"], shown.others_weight()
    shown.surer = 15
    np.testing.assert_array_equal(shown.others()["t"], before)
    assert shown.others_weight() < 0.1 * weight


def relation_figure(maps=None, features=None, labels=(0, 1, 1), moments="ab", **controls):
    maps = np.random.default_rng(0).normal(size=(2, 3, 2)) if maps is None else maps
    features = np.eye(3) if features is None else features
    images = np.zeros((len(features), 8, 8), np.uint8)
    return RelationFigure(maps, features, images, labels, moments, "abcdef", **controls)


def attention_figure(student=(2, 3, 4, 4), teacher=(2, 5, 4, 4), labels=(0, 1), name="a", **controls):
    features = {"a": np.ones(student)}, {name: np.ones(teacher)}
    return AttentionFigure(*features, IMAGES, labels, **controls)


def parts_figure(student=((1.0, 2.0, 3.0),), teacher=((3.0, 2.0, 1.0),), **controls):
    figure = PartsFigure(student, teacher, IMAGES[:1], [0], "abc"[: len(teacher[0])])
    for name, value in controls.items():
        setattr(figure, name, value)
    return figure


def kl_figure(student=(1.0, 2.0, 3.0), teacher=(3.0, 2.0, 1.0), label=0, **controls):
    return KLLossFigure(student, teacher, label, "abc", **controls)


FAULTS = {
    "NaN": (lambda: temperature_figure(logits=NAN), r"logits must be finite, but holds nan at \(0, 1\)"),
    "infinity": (lambda: kl_figure(teacher=[np.inf, 0, 0]), r"teacher_logits must be finite, but holds inf"),
    "one dimension": (lambda: temperature_figure(logits=LOGITS[0]), r"logits must have the shape \(K, C\)"),
    "empty": (lambda: temperature_figure(logits=np.zeros((0, 3))), "logits .* but is empty"),
    "float images": (lambda: temperature_figure(images=IMAGES / 255), "images must be uint8"),
    "two channels": (
        lambda: temperature_figure(images=np.zeros((2, 2, 8, 8), np.uint8)),
        r"images must have the shape \(K, H, W\)",
    ),
    "an image too few": (lambda: temperature_figure(images=IMAGES[:1]), "one image for each of the 2 rows"),
    "a label too few": (lambda: temperature_figure(labels=[0]), "one label for each of the 2 rows"),
    "a label too high": (lambda: temperature_figure(labels=[0, 3]), "from 0 to 2, but there is 3"),
    "half a label": (
        lambda: temperature_figure(labels=[0, 0.5]),
        "whole numbers from 0 to 2, but there is 0.5",
    ),
    "a name too few": (lambda: temperature_figure(classes="ab"), "name the 3 classes .* has 2 names"),
    "too many classes": (lambda: temperature_figure(logits=np.zeros((2, 100))), "shows 2 to 20 classes"),
    "a bar for every class": (
        lambda: temperature_figure(likeliest=3),
        "likeliest must be from 1 to 20, and below the 3 classes of the logits, but is 3",
    ),
    "cold": (lambda: temperature_figure(temperature=0), "temperature must be from 0.1 to 50, but is 0"),
    "a NaN temperature": (lambda: temperature_figure(temperature=np.nan), "temperature must be from 0.1"),
    "no probabilities": (
        lambda: SoftLabelFigure(IMAGES, [0, 1], LOGITS),
        "probabilities, but row 0 sums to 2",
    ),
    "student too short": (lambda: kl_figure(student=[1.0, 2.0]), "student_logits must hold 3 values"),
    "label out of range": (lambda: kl_figure(label=-1), "from 0 to 2, but there is -1"),
    "weight over one": (lambda: kl_figure(soft_weight=1.5), "soft_weight must be from 0 to 1, but is 1.5"),
    "nothing held out": (
        lambda: bias_figure(held_out_class=2),
        "images of the held-out class c and of others",
    ),
    "all held out": (lambda: bias_figure(labels=[1, 1]), "but 2 of 2 are of it"),
    "layers of other names": (lambda: attention_figure(name="b"), "there are a of the student and b of"),
    "maps of other sizes": (
        lambda: attention_figure(teacher=(2, 5, 2, 2)),
        r"a has maps of \(4, 4\) in the student and \(2, 2\) in the teacher",
    ),
    "maps of fewer images": (
        lambda: attention_figure(teacher=(1, 5, 4, 4)),
        "a of the teacher must hold 2 images, but holds 1",
    ),
    "too many to choose from": (lambda: attention_figure(labels=[0] * 9), "shows 1 to 8 images, .* 9 labels"),
    "pooled maps": (lambda: attention_figure(student=(2, 3)), r"must have the shape \(K, C, H, W\)"),
    "an exponent between": (lambda: attention_figure(p=2.2), "p must be one of .*, but is 2.2"),
    "a layer too deep": (lambda: attention_figure(layer=1), "layer must be from 0 to 0, but is 1"),
    "regressed maps of other channels": (
        lambda: feature_figure(regressed=(2, 3, 5, 4, 4)),
        r"regressed must have the shape \(M, K, C, H, W\) for 2 steps and teacher's \(3, 4, 4, 4\)",
    ),
    "steps and moments that differ": (lambda: feature_figure(steps=[0, 1, 2]), "for 3 steps"),
    "one moment": (lambda: feature_figure(regressed=(1, 3, 4, 4, 4), steps=[0]), "2 to 12 moments"),
    "a channel too far": (lambda: feature_figure(channel=4), "channel must be from 0 to 3, but is 4"),
    "two classes have one other": (
        lambda: parts_figure([[1.0, 2.0]], [[2.0, 1.0]]),
        r"one shape \(K, C\) with 3 classes or more, but have \(1, 2\) and \(1, 2\)",
    ),
    "a student of fewer images": (lambda: parts_figure(teacher=np.eye(3)), "one shape .* and .3, 3."),
    "too sure": (lambda: parts_figure(surer=21), "surer must be from -10 to 20, but is 21"),
    "three numbers an image": (
        lambda: relation_figure(maps=np.zeros((2, 3, 3))),
        "two numbers an image, but have 3",
    ),
    "maps of other images": (
        lambda: relation_figure(features=np.eye(4)),
        "maps hold 3 images, but teacher_features hold 4",
    ),
    "too few to relate": (
        lambda: relation_figure(maps=np.eye(2)[:, None], features=np.eye(1)),
        "shows 3 to 80 images, but there are 1",
    ),
    "three seeds": (lambda: SeedsFigure({"a − b": [1, 2, 3]}), "a − b must have 4 to 40 seeds, but has 3"),
    "questions of other seeds": (
        lambda: SeedsFigure({"a": [1, 2, 3, 4], "b": [1, 2, 3, 4, 5]}),
        r"as many seeds, but have \[4, 5\]",
    ),
    "no question": (lambda: SeedsFigure({}), "1 to 4 questions, but there are 0"),
    "no scatter": (lambda: SeedsFigure({"a": [2.0] * 5}), "differ from seed to seed, but is 2 for all"),
    "a seed too many": (
        lambda: SeedsFigure({"a": [1, 2, 3, 4]}, seeds=5),
        "seeds must be from 2 to 4, but is 5",
    ),
    "one map": (lambda: relation_figure(maps=np.ones((1, 3, 2))), "shows 2 to 40 maps, but there are 1"),
    "a moment too few": (lambda: relation_figure(moments="a"), "name the 2 maps, but has 1 names"),
    "all at one place": (
        lambda: relation_figure(maps=np.ones((2, 3, 2))),
        "map 0 has all images at one place",
    ),
    "a teacher without distances": (
        lambda: relation_figure(features=np.ones((3, 4))),
        "teacher_features has all images at one place",
    ),
    "too many colours": (
        lambda: relation_figure(np.random.default_rng(0).normal(size=(2, 6, 2)), np.eye(6), range(6)),
        "at most 5 different classes, but are of 6",
    ),
    "a moment too late": (lambda: relation_figure(moment=2), "moment must be from 0 to 1, but is 2"),
    "too many images": (lambda: bias_figure(np.zeros((6001, 3)), np.zeros(6001)), "at most 6000 images"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_told_in_one_sentence(fault):
    make, sentence = FAULTS[fault]
    with pytest.raises(ValueError, match=sentence) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_a_figure_without_a_picture_is_not_a_figure():
    with pytest.raises(NotImplementedError):
        LiveFigure(state={}).page()


def test_modules_stand_alone():
    for name in (
        "attention",
        "bias",
        "feature",
        "kl_loss",
        "parts",
        "relation",
        "seeds",
        "soft_label",
        "temperature",
    ):
        assert "import " not in re.sub(r"//.*|/\*.*?\*/", "", live.module(name), flags=re.DOTALL)


def test_an_executed_notebook_carries_the_figure():
    code = (
        "import numpy as np\nfrom kdlib.course.figures import TemperatureFigure\n"
        "TemperatureFigure(np.eye(3), np.zeros((3, 8, 8), np.uint8), [0, 1, 2], 'abc')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=400).execute()
    data = notebook.cells[0].outputs[-1]["data"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert embedded(data["text/html"])["traits"]["state"]["classes"] == ["a", "b", "c"]
