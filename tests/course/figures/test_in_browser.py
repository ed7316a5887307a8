"""The live figures as a reader meets them: a page opened from disk, with no kernel and no network."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import torch

from kdlib.course.figures import TemperatureFigure

SLIDERS = {
    "soft label": "temperature",
    "temperature": "temperature",
    "kl loss": "temperature",
    "bias": "bias added to the logit of class 3",
    "attention": "exponent p",
    "feature": "step of the regressor's training",
    "parts": "temperature",
    "relation": "image",
    "seeds": "number of seeds",
}
NAMES = tuple(SLIDERS)


def slide(page, label: str, value: float) -> None:
    """Moves the slider to the stop of this value, as dragging does; stops rise, so a bisection finds it."""
    slider = page.get_by_role("slider", name=label, exact=True)
    low, high = 0, int(slider.get_attribute("max"))
    while low < high:
        middle = (low + high) // 2
        move(slider, middle)
        low, high = (middle + 1, high) if spoken(slider) < value - 1e-9 else (low, middle)
    move(slider, low)
    assert spoken(slider) == pytest.approx(value, abs=0.01)


def move(slider, stop: int) -> None:
    """Puts the slider on a stop and tells the page, as the browser does for a drag."""
    slider.evaluate("(input, stop) => { input.value = stop; input.dispatchEvent(new Event('input')); }", stop)


def spoken(slider) -> float:
    """The number at the end of a slider's spoken value."""
    return float(slider.get_attribute("aria-valuetext").split()[-1].replace("\u2212", "-").rstrip("°"))


def numbers(page, name: str):
    """A value behind the figure's words, at full precision."""
    return np.array(json.loads(page.locator(".kd-readout").get_attribute(f"data-{name}")))


def softened(logits, temperature: float) -> np.ndarray:
    return torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, dim=-1).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_slider_answers_to_the_keyboard(open_html, html_of, name):
    page = open_html(html_of(name))
    words, bars = page.locator(".kd-readout"), page.locator(".kd-panel svg").last
    before = words.inner_text(), bars.inner_html()
    slider = page.get_by_role("slider", name=SLIDERS[name], exact=True)
    slider.focus()
    spoken_before = slider.get_attribute("aria-valuetext")
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") != spoken_before
    assert slider.get_attribute("aria-valuetext").startswith(SLIDERS[name])
    assert words.inner_text() != before[0]
    assert bars.inner_html() != before[1]


def test_the_page_around_does_not_take_the_arrow_keys(open_html, html_of):
    # JupyterLab, for one, walks between cells with them and lets no slider move.
    page = open_html(html_of("bias"))
    page.evaluate("document.addEventListener('keydown', (event) => event.preventDefault())")
    slider = page.get_by_role("slider")
    before = slider.get_attribute("aria-valuetext")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") != before


@pytest.mark.parametrize("name", ["soft label", "temperature"])
def test_images_are_chosen_by_arrow_keys(open_html, html_of, name):
    page = open_html(html_of(name))
    page.get_by_role("radio", name="image 1, labelled 0").focus()
    before = numbers(page, "probabilities")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="image 2, labelled 1").is_checked()
    assert not np.allclose(numbers(page, "probabilities"), before)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1, 4, 20, 50])
def test_temperature_figure_agrees_with_torch(open_html, html_of, figure, temperature):
    shown = figure("temperature")
    page = open_html(html_of("temperature"))
    slide(page, "temperature", temperature)
    teacher = torch.tensor(shown.state["logits"][0], dtype=torch.float64)
    student = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    log_q, log_p = torch.log_softmax(student / temperature, 0), torch.log_softmax(teacher / temperature, 0)
    torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True).backward()
    probabilities = log_p.exp()
    np.testing.assert_allclose(numbers(page, "probabilities"), probabilities, atol=1e-12)
    np.testing.assert_allclose(numbers(page, "entropy"), -(probabilities * log_p).sum(), atol=1e-12)
    np.testing.assert_allclose(numbers(page, "gradient-kl"), student.grad, atol=1e-12)
    np.testing.assert_allclose(numbers(page, "gradient-scaled"), temperature**2 * student.grad, atol=1e-10)


def test_bars_are_as_long_as_the_numbers(open_html, html_of, figure):
    shown = figure("temperature")
    page = open_html(html_of("temperature"))
    rectangles = page.locator(".kd-panel svg").first.locator("rect.kd-bar")
    widths = np.array([float(bar.get_attribute("width")) for bar in rectangles.all()])
    expected = softened(shown.state["logits"][0], 4)
    np.testing.assert_allclose(widths / widths.sum(), expected, atol=1e-9)
    written = page.locator(".kd-panel svg").first.locator("text.kd-number").all_text_contents()
    assert written == [f"{p:.3f}" for p in expected]


@pytest.mark.parametrize("temperature", [1, 2.5, 10])
def test_soft_label_figure_agrees_with_torch(open_html, html_of, figure, temperature):
    shown = figure("soft label")
    page = open_html(html_of("soft label"))
    slide(page, "temperature", temperature)
    expected = softened(shown.state["logits"][0], temperature)
    np.testing.assert_allclose(numbers(page, "probabilities"), expected, atol=1e-12)


@pytest.mark.parametrize(("temperature", "weight"), [(0.5, 0.5), (1, 0), (4, 0.9), (50, 1)])
def test_kl_figure_agrees_with_torch(open_html, html_of, figure, temperature, weight):
    shown = figure("kl loss")
    page = open_html(html_of("kl loss"))
    slide(page, "temperature", temperature)
    slide(page, "soft weight", weight)
    page.get_by_role("radio", name="class 7", exact=True).focus()
    page.keyboard.press("Space")
    slide(page, "student’s logit of the chosen class", 1.0)
    logits = [*shown.student_logits[:7], 1.0, *shown.student_logits[8:]]
    np.testing.assert_allclose(numbers(page, "student-logits"), logits)

    student = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(shown.state["teacher_logits"], dtype=torch.float64)
    hard = torch.nn.functional.cross_entropy(student[None], torch.tensor([3]))
    log_q, log_p = torch.log_softmax(student / temperature, 0), torch.log_softmax(teacher / temperature, 0)
    soft = temperature**2 * torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True)
    total = (1 - weight) * hard + weight * soft
    total.backward()
    np.testing.assert_allclose(numbers(page, "hard-loss"), hard.item(), rtol=1e-9)
    np.testing.assert_allclose(numbers(page, "soft-loss"), soft.item(), rtol=1e-9)
    np.testing.assert_allclose(numbers(page, "total-loss"), total.item(), rtol=1e-9)
    np.testing.assert_allclose(numbers(page, "gradient-total"), student.grad, atol=1e-10)


@pytest.mark.parametrize(("temperature", "surer"), [(1, 0), (4, 7.5), (10, -5)])
def test_parts_figure_agrees_with_python(open_html, html_of, figure, temperature, surer):
    shown = figure("parts")
    shown.temperature, shown.surer = temperature, surer
    page = open_html(html_of("parts"))
    slide(page, "temperature", temperature)
    slide(page, "added to the teacher’s logit of the label", surer)
    np.testing.assert_allclose(numbers(page, "weight"), shown.others_weight(), atol=1e-12)
    np.testing.assert_allclose(numbers(page, "others-teacher"), shown.others()["t"], atol=1e-12)
    for name, gradient in shown.gradients().items():
        np.testing.assert_allclose(numbers(page, f"gradient-{name}"), gradient, atol=1e-12)


@pytest.mark.parametrize("bias", [0, 2.5, 5, 9])
def test_bias_figure_agrees_with_python(open_html, html_of, figure, bias):
    shown = figure("bias")
    page = open_html(html_of("bias"))
    slide(page, SLIDERS["bias"], bias)
    found = [numbers(page, share) for share in ("recall", "others", "accuracy")]
    np.testing.assert_allclose(found, shown.shares(bias), rtol=1e-12)
    assert float(numbers(page, "best-bias")) == pytest.approx(shown._best())


@pytest.mark.parametrize("p", [1, 2, 8])
def test_attention_figure_agrees_with_python(open_html, html_of, figure, p):
    shown = figure("attention")
    page = open_html(html_of("attention"))
    slide(page, "exponent p", p)
    page.get_by_role("radio", name="image 4, labelled 3").check()
    page.get_by_role("radio", name="layer layer2").check()
    shown.p, shown.example, shown.layer = p, 3, 1
    for form in ("code", "paper"):
        assert numbers(page, form) == shown.loss(form)


def test_attention_maps_are_drawn_as_they_are(open_html, html_of, figure):
    page = open_html(html_of("attention"))
    drawn = page.evaluate(
        """async () => {
          const image = new Image();
          image.src = document.querySelectorAll(".kd-panel image")[1].getAttribute("href");
          await image.decode();
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [8, 8];
          canvas.getContext("2d").drawImage(image, 0, 0);
          return [...canvas.getContext("2d").getImageData(0, 0, 8, 8).data];
        }"""
    )
    state = figure("attention").state
    packed = state["maps"][0][1]
    heat = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(packed["shape"])[2, 0] / 255
    ink = np.frombuffer(base64.b64decode(state["images"]["bytes"]), np.uint8).reshape(8, 8, 8)[0]
    red = (1 - 0.85 * heat) * ink + 0.85 * heat * 255
    np.testing.assert_allclose(np.array(drawn).reshape(8, 8, 4)[..., 0], red, atol=1)


@pytest.mark.parametrize("turn", [-180, 0, 45])
def test_relation_figure_agrees_with_python_however_it_is_turned(open_html, html_of, figure, turn):
    shown = figure("relation")
    page = open_html(html_of("relation"))
    slide(page, "turn of the map in degrees", turn)
    for moment in range(4):
        move(page.get_by_role("slider", name="moment of the training", exact=True), moment)
        assert numbers(page, "loss") == pytest.approx(shown.loss(moment), rel=1e-9)


def test_an_image_of_the_map_can_be_picked(open_html, html_of):
    page = open_html(html_of("relation"))
    fifth = page.locator(".kd-pickable image").nth(4).bounding_box()
    page.mouse.click(fifth["x"] + fifth["width"] / 2, fifth["y"] + fifth["height"] / 2)
    assert numbers(page, "example") == 4
    assert page.get_by_role("slider", name="image", exact=True).get_attribute("aria-valuetext") == "image 5"


def test_neighbours_are_the_nearest(open_html, html_of, figure):
    page = open_html(html_of("relation"))
    move(page.get_by_role("slider", name="image", exact=True), 3)
    state = figure("relation").state
    rows, columns = np.triu_indices(10, 1)
    own = [
        (d, int(i + j - 3)) for d, i, j in zip(state["distances"], rows, columns, strict=True) if 3 in (i, j)
    ]
    nearest = ", ".join(state["names"][i] for _, i in sorted(own)[:5])
    assert f"are {nearest} for the teacher" in page.locator(".kd-readout").inner_text()


@pytest.mark.parametrize(("seeds", "order"), [(2, 0), (3, 11), (12, 4), (20, 0)])
def test_seeds_figure_agrees_with_python(open_html, html_of, figure, seeds, order):
    shown = figure("seeds")
    page = open_html(html_of("seeds"))
    page.get_by_role("radio", name="a − c").check()
    slide(page, SLIDERS["seeds"], seeds)
    move(page.get_by_role("slider", name="order in which the seeds come", exact=True), order)
    shown.question, shown.order = 1, order
    found = [float(numbers(page, name)) for name in ("mean", "low", "high")]
    assert found == pytest.approx(shown.interval(seeds), rel=1e-9)
    assert float(numbers(page, "wrong")) == shown.state["wrong"][1][seeds - 2]


@pytest.mark.parametrize("name", ["temperature", "kl loss", "bias", "attention", "parts"])
def test_the_curve_can_be_dragged(open_html, html_of, drag, name):
    page = open_html(html_of(name))
    before = page.locator(".kd-readout").inner_text()
    drag(page, 0.3, 0.8)
    assert page.locator(".kd-readout").inner_text() != before


def test_figures_on_a_page_keep_to_themselves(open_html, html_of):
    page = open_html(*[html_of(name) for name in (*NAMES, "temperature")])
    words = page.locator(".kd-readout").all_inner_texts()
    slider = page.get_by_role("slider", name="temperature", exact=True).nth(1)
    slider.focus()
    page.keyboard.press("End")
    page.get_by_role("radio", name="image 2, labelled 1").last.check()
    after = page.locator(".kd-readout").all_inner_texts()
    changed = [old != new for old, new in zip(words, after, strict=True)]
    assert changed == [False, True, *[False] * (len(NAMES) - 2), True]
    assert page.get_by_role("radio", name="image 1, labelled 0").nth(1).is_checked()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 360])
def test_no_accessibility_violations(open_html, html_of, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_html(*[html_of(name) for name in NAMES], theme=theme, width=width)
    found = axe.Axe().run(page).response["violations"]
    assert [(fault["impact"], fault["id"], fault["nodes"][0]["html"]) for fault in found] == []


CONTRASTS = """() => {
  const figure = document.querySelector(".kd-fig");
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(figure).backgroundColor);
  const against = (colour) => {
    const [low, high] = [light(colour), ground].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const of = (parts) => [...figure.querySelectorAll(parts)].map((n) => against(getComputedStyle(n).fill));
  return { text: Math.min(...of("svg text")), bars: Math.min(...of("rect.kd-bar, circle")) };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_pictures_stand_out_from_their_ground(open_html, html_of, theme, name):
    # axe does not look into an SVG.
    contrasts = open_html(html_of(name), theme=theme).evaluate(CONTRASTS)
    assert contrasts["text"] >= 4.5
    assert contrasts["bars"] >= 3


@pytest.mark.parametrize("width", [320, 900])
@pytest.mark.parametrize("name", NAMES)
def test_readable_and_reachable_at_any_width(open_html, html_of, name, width):
    page = open_html(html_of(name), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator(".kd-fig span, .kd-fig p, .kd-fig text").evaluate_all(
        "nodes => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
    )
    assert min(sizes) >= 12
    sides = page.locator(".kd-fig input").evaluate_all(
        "nodes => nodes.map((node) => node.getBoundingClientRect()).flatMap((box) => [box.width, box.height])"
    )
    assert min(sides) >= 40


def test_pictures_are_described_as_they_change(open_html, html_of):
    page = open_html(html_of("temperature"))
    picture = page.get_by_role("img").first
    before = picture.get_attribute("aria-label")
    slide(page, "temperature", 1)
    assert picture.get_attribute("aria-label") != before
    assert page.locator(".kd-readout").get_attribute("aria-live") == "polite"


def test_without_scripts_the_picture_stays(open_html, html_of, figure):
    shown = figure("temperature")
    page = open_html(html_of("temperature"), scripts=False)
    picture = page.locator(".kdlib-live img")
    assert picture.is_visible()
    assert picture.get_attribute("alt") == shown.alt_text()
    assert picture.bounding_box()["height"] > 200


def test_classes_without_a_bar_of_their_own_share_one(open_html):
    logits = np.random.default_rng(0).normal(scale=2, size=(2, 30))
    images, names = np.zeros((2, 3, 8, 8), dtype=np.uint8), [f"class {c}" for c in range(30)]
    page = open_html(TemperatureFigure(logits, images, ["a cat", "a dog"], names, likeliest=4).page())
    for image in (0, 1):
        page.get_by_role("radio").nth(image).check(force=True)
        p, best = softened(logits[image], 4), np.argsort(-logits[image])[:4]
        panel = page.locator("svg").first
        labels = panel.locator(".kd-name").all_text_contents()
        assert labels == [*(names[c] for c in best), "26 others"]
        written = [float(number) for number in panel.locator(".kd-number").all_text_contents()]
        np.testing.assert_allclose(written, [*p[best], 1 - p[best].sum()], atol=6e-4)
        np.testing.assert_allclose(numbers(page, "probabilities"), p, atol=1e-6)


def test_class_names_are_text_never_markup(open_html):
    names = ["</script><b>bold</b>", "<!-- &amp;", "c"]
    shown = TemperatureFigure(np.eye(3), np.zeros((3, 8, 8), dtype=np.uint8), [0, 1, 2], names, temperature=1)
    page = open_html(shown.page())
    assert page.locator("b").count() == 0
    assert names[0] in page.locator(".kd-readout").inner_text()
