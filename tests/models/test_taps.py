"""Taps: the right maps by name, nothing left behind, and what torch.compile and DDP make of them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from kdlib.models import NoisyTeacher, create_model, tap
from kdlib.models.taps import embedding_path


@pytest.fixture
def network():
    return create_model("resnet8", 5, seed=0).eval()


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def hooks(model: nn.Module) -> int:
    """All hooks of all modules."""
    return sum(
        len(getattr(module, kind))
        for module in model.modules()
        for kind in vars(module)
        if kind.endswith("_hooks")
    )


def by_hand(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of the stem's batch norm and of the first two stages."""
    stem = model.bn1(model.conv1(images))
    first = model.layer1(stem.relu())
    return [stem, first, model.layer2(first)]


def test_outputs_by_the_names_given(network, images):
    expected = by_hand(network, images)
    logits = network(images)
    with tap(network, {"bn1": "stem", "layer1": "conv2_x", "layer2": "conv3_x"}) as maps:
        tapped_logits = network(images)
    assert list(maps) == ["stem", "conv2_x", "conv3_x"]
    assert len(maps) == 3
    assert torch.equal(tapped_logits, logits)
    assert all(torch.equal(a, b) for a, b in zip(maps.values(), expected, strict=True))


def test_a_list_of_paths_names_itself(network, images):
    with tap(network, ["layer2", "layer1.0.bn2"]) as maps:
        network(images)
    assert list(maps) == ["layer2", "layer1.0.bn2"]


def test_an_input_is_the_map_before_the_relu(network, images):
    with tap(network, ["layer1.0.relu:input", "layer1"]) as maps:
        network(images)
    assert maps["layer1.0.relu:input"].min() < 0
    assert torch.equal(maps["layer1.0.relu:input"].relu(), maps["layer1"])


def test_losses_on_maps_train_the_layers_below_them(network, images):
    with tap(network, ["layer1"]) as maps:
        network(images)
    maps["layer1"].square().sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0
    assert network.layer2[0].conv1.weight.grad is None


def test_a_wrapper_that_keeps_the_network_twice_is_looked_through(network, images):
    """As Lightning Fabric does, once as it is trained and once as it was given."""
    wrapper = nn.Module()
    wrapper._forward_module = nn.Module()
    wrapper._forward_module.module = network
    wrapper._original_module = network
    with tap(wrapper, ["layer1"]) as maps:
        network(images)
    assert torch.equal(maps["layer1"], by_hand(network, images)[1])


def test_every_pass_replaces_the_one_before(network, images):
    with tap(network, ["layer1"]) as maps:
        for batch in images.split(2):
            network(batch)
            assert torch.equal(maps["layer1"], by_hand(network, batch)[1])


def test_two_taps_at_once(network, images):
    with tap(network, ["layer1"]) as one, tap(network, ["layer1", "layer2"]) as two:
        network(images)
    assert torch.equal(one["layer1"], two["layer1"])


def test_the_model_is_left_untouched(network, images):
    before, state = hooks(network), copy.deepcopy(network.state_dict())
    with tap(network, ["layer1", "layer2.0.relu:input"]):
        assert hooks(network) > before
        network(images)
    assert hooks(network) == before
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_no_hook_is_left_after_an_exception(network, images):
    for failing in (lambda: network(images[:, :1]), lambda: [][0]):
        with pytest.raises((RuntimeError, IndexError)), tap(network, ["layer1"]):
            failing()
        assert hooks(network) == 0
    taps = tap(network, ["layer1"])
    with taps:
        with pytest.raises(RuntimeError):
            network(images[:, :1])
        network(images)
    assert taps["layer1"].shape == (4, 16, 16, 16)


def test_recomputation_of_a_checkpointed_block_is_no_second_call(network, images):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    model = Checkpointed()
    with tap(model, ["inner.layer1"]) as maps:
        logits = model(images)
        (logits.sum() + maps["inner.layer1"].sum()).backward()
    assert network.conv1.weight.grad is not None


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["layer9"], r"CifarResNet has no module 'layer9'; near it are .*layer1"),
        (["layer1.0.conv3"], r"no module 'layer1.0.conv3'; near it are .*layer1.0.conv1"),
        (["zzz"], r"no module 'zzz'; near it are conv1, bn1, layer1, layer2, layer3, classifier"),
        (["relu9:input"], r"no module 'relu9'"),
        ([], r"nothing to tap"),
        ("layer1", r"paths is the string 'layer1'; give a list"),
        ({"layer1": "a", "layer2": "a"}, r"two taps have one name \(a, a\)"),
    ],
)
def test_paths_that_cannot_be_tapped(network, paths, message):
    with pytest.raises(ValueError, match=message):
        tap(network, paths)


def test_a_module_that_is_called_twice(images):
    """The blocks of torchvision's ResNets use one ReLU for both of their activations."""
    model = create_model("resnet18", 5)
    with (
        tap(model, ["layer1.0.relu"]),
        pytest.raises(ValueError, match=r"'layer1.0.relu' was called twice in one pass"),
    ):
        model(images)
    assert hooks(model) == 0


def test_a_module_that_is_never_called(network, images):
    network.spare = nn.Linear(1, 1)
    with (
        tap(network, ["layer1", "spare"]),
        pytest.raises(ValueError, match=r"'spare' was not called when the network ran"),
    ):
        network(images)


def test_a_module_that_gives_no_tensor():
    model = nn.Sequential(nn.LSTM(3, 4))
    with tap(model, ["0"]), pytest.raises(ValueError, match=r"'0' gives a tuple and not a tensor"):
        model(torch.randn(2, 5, 3))


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad])
def test_an_output_that_is_overwritten_is_refused_or_copied(context, images):
    """The small network's ReLUs work in place, so its batch norm's output is gone when the pass ends."""
    model = create_model("convnet", 5, seed=0).eval()
    with (
        context(),
        tap(model, ["layer1.1"]),
        pytest.raises(ValueError, match=r"'layer1.1' was overwritten by a later in-place"),
    ):
        model(images)
    with context(), tap(model, ["layer1.1"], copy=True) as maps:
        model(images)
    assert torch.equal(maps["layer1.1"], model.layer1[1](model.layer1[0](images)))


def test_inference_mode(network, images):
    with torch.inference_mode(), tap(network, ["layer1"]) as maps:
        network(images)
        assert maps["layer1"].shape == (4, 16, 16, 16)


def test_reading_too_early_and_reading_what_is_not_there(network):
    with tap(network, {"layer1": "conv2_x"}) as maps:
        with pytest.raises(ValueError, match=r"nothing has been tapped for 'conv2_x' yet; run the network"):
            maps["conv2_x"]
        with pytest.raises(KeyError, match=r"no tap is called 'layer1'; there are conv2_x"):
            maps["layer1"]
        assert "layer1" not in maps


def test_a_tap_is_opened_once(network):
    taps = tap(network, ["layer1"])
    with taps, pytest.raises(ValueError, match=r"already open"), taps:
        pass


class Small(nn.Module):
    """The stem and two stages that `by_hand` knows, one convolution each: compiled in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.layer1, self.layer2 = (nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())).mean(dim=(2, 3))


@pytest.fixture
def small():
    return Small().eval()


@pytest.fixture
def compiler():
    """Compiles with everything but code generation, without a break in the graph, and counts the graphs."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    yield CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()


def check(maps, network, images):
    torch.testing.assert_close(maps["conv2_x"], by_hand(network, images)[1])


def test_a_compiled_network_with_one_tap_around_many_passes(small, images, compiler):
    compiled = torch.compile(small, backend=compiler, fullgraph=True)
    with tap(compiled, {"layer1": "conv2_x"}) as maps:
        for step in range(3):
            logits = compiled(images + step)
            check(maps, small, images + step)
        (logits.sum() + maps["conv2_x"].sum()).backward()
    assert small.conv1.weight.grad is not None
    assert compiler.frame_count == 1


def test_a_compiled_network_with_a_new_tap_at_every_step(small, images, compiler):
    small.compile(backend=compiler, fullgraph=True)
    for step in range(3):
        with tap(small, {"layer1": "conv2_x"}) as maps:
            small(images + step)
        check(maps, small, images + step)
    assert compiler.frame_count == 1


def test_a_compiled_step_that_runs_the_network_and_reads_the_maps(small, images, compiler):
    with tap(small, {"layer1": "conv2_x"}) as maps:

        @torch.compile(backend=compiler, fullgraph=True)
        def step(batch):
            small(batch)
            return maps["conv2_x"].mean()

        for shift in range(3):
            expected = by_hand(small, images + shift)[1].mean()
            torch.testing.assert_close(step(images + shift), expected)
    assert compiler.frame_count == 1


def test_a_compiled_function_that_holds_the_tap(small, images, compiler):
    @torch.compile(backend=compiler)
    def step(batch):
        with tap(small, {"layer1": "conv2_x"}) as maps:
            small(batch)
        return maps["conv2_x"]

    for shift in range(3):
        torch.testing.assert_close(step(images + shift), by_hand(small, images + shift)[1])
    assert hooks(small) == 0


def test_a_network_compiled_before_its_first_tap_is_reported(small, images, compiler):
    compiled = torch.compile(small, backend=compiler)
    compiled(images)
    with (
        tap(compiled, ["layer1"]),
        pytest.raises(ValueError, match=r"if the network is compiled, let its first pass be inside"),
    ):
        compiled(images)


def test_with_guards_on_hooks_a_compiled_network_may_be_tapped_to_and_fro(small, images, compiler):
    compiled = torch.compile(small, backend=compiler)
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
        for step in range(3):
            compiled(images + step)
            with tap(compiled, {"layer1": "conv2_x"}) as maps:
                compiled(images + step)
            check(maps, small, images + step)
    assert compiler.frame_count == 2


def test_a_network_in_ddp(network, images, tmp_path):
    """One process, gloo: the gradients of a loss on a map are synchronised, and no hook stays."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        before = hooks(network)
        parallel = DistributedDataParallel(network)
        with tap(parallel, {"layer1": "conv2_x"}) as maps:
            logits = parallel(images)
        check(maps, network, images)
        (logits.sum() + maps["conv2_x"].sum()).backward()
        assert all(weight.grad is not None for weight in network.parameters())
        assert hooks(network) == before
    finally:
        torch.distributed.destroy_process_group()


class Heads(nn.Module):
    """Linear layers registered in another order than they are called in, and one that is not called."""

    def __init__(self, join) -> None:
        super().__init__()
        self.classifier = nn.Linear(6, 5)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6), nn.BatchNorm1d(6), nn.Dropout())
        self.auxiliary = nn.Linear(6, 5)
        self.spare = nn.Linear(6, 5)
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.hidden(x)
        return self.join(self.classifier(features), self.auxiliary(features))


@pytest.mark.parametrize(
    "model",
    [
        Heads(lambda logits, _other: logits),
        Heads(lambda logits, _other: {"logits": logits}),
        NoisyTeacher(Heads(lambda logits, _other: logits), 1.0),
        nn.DataParallel(Heads(lambda logits, _other: logits)),
        Heads(lambda logits, _other: logits).bfloat16(),
    ],
    ids=["plain", "key", "control", "wrapped", "half"],
)
def test_the_embedding_is_what_enters_the_layer_whose_output_is_the_logits(model, images):
    state, generator = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    assert embedding_path(model.train(), images) == "classifier:input"
    assert hooks(model) == 0
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_logits_that_are_made_of_one_layers_output_have_its_embedding(images):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(6, 5), nn.Linear(3 * 16 * 16, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.last(self.first(x.flatten(1))) / 2).log_softmax(1)

    assert embedding_path(Scaled(), images) == "last:input"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Heads(lambda one, other: (one + other) / 2),
            r"Heads has several, auxiliary, classifier, that could",
        ),
        (nn.Sequential(nn.Conv2d(3, 5, 16), nn.Flatten()), r"Sequential has none that could be it; name the"),
    ],
    ids=["two heads", "convolution"],
)
def test_embeddings_that_cannot_be_found(model, message, images):
    with pytest.raises(ValueError, match=message):
        embedding_path(model, images)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_networks_without_layers_are_refused(network, images):
    for model, kind in (
        (torch.jit.trace(network, images), "TorchScript"),
        (NoisyTeacher(network.forward, 1.0), "a function"),
    ):
        for attempt in (
            lambda model=model: tap(model, ["layer1"]),
            lambda model=model: embedding_path(model, images),
        ):
            with pytest.raises(
                ValueError, match=rf"is {kind}, whose layers cannot be tapped; give the nn.Mod"
            ):
                attempt()
