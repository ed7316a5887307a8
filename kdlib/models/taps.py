"""`tap`: what the modules inside a network give out, by name, while the network itself stays as it is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from kdlib.models.answers import Function, compute_logits
from kdlib.models.trials import untouched
from kdlib.names import close

# Under these names torch.compile, data parallelism and Lightning Fabric keep the network that they wrap.
_WRAPPED = ("_orig_mod", "_forward_module", "_original_module", "module")

_INPUT = ":input"


class OverwrittenError(ValueError):
    """A tapped output was overwritten by a later in-place operation."""


def tap(model: nn.Module, paths: Mapping[str, str] | Iterable[str], *, copy: bool = False) -> "Taps":
    """Collect intermediate outputs of a network while it runs.

    .. code-block:: python

        with tap(student, {"layer1": "conv2_x", "layer2": "conv3_x"}) as maps:
            logits = student(images)
        loss = (maps["conv2_x"] - target).pow(2).mean()

    A path is what `model.named_modules()` calls a module, "layer1.0.bn2" for instance, in DDP, in Lightning
    Fabric and under ``torch.compile`` too, whose wrappers are looked through. "layer1.2.relu:input" is what
    enters that module, here the map before the ReLU. Outputs keep their graph: a loss on them trains
    the network. Modules that torchvision's residual blocks call twice, their ReLUs, cannot be tapped.

    The hooks are there inside ``with`` only, and go however it is left. Every pass through the network
    replaces the outputs of the pass before, and the last ones can still be read afterwards.

    Under ``torch.compile`` (as of torch 2.12) the hooks become part of the compiled graph, without a break.
    Three things work: to run a compiled network inside ``with``, a new one at each step or one around many;
    to compile inside ``with`` a function that runs the network and reads the maps; and to compile a function
    that holds the ``with``, which costs a break of the graph there. A network whose first compiled pass was
    not tapped does not notice later hooks, and the tap then reports that its modules were not called. To go
    to and fro between tapped and not tapped, set ``torch._dynamo.config.skip_nnmodule_hook_guards = False``
    before the first compiled pass. An output that a later layer overwrites is noticed only without
    compilation.

    Args:
        model: any network.
        paths: module paths and the names to give their outputs, or just paths, which are then the names.
        copy: keep copies, which costs their memory; for outputs that a later layer overwrites.

    Raises:
        ValueError: a path names no module, two outputs would have one name, or the network is a function or
            TorchScript, into which nobody can look. While the network runs: a
            tapped module is called twice or never in one pass, gives no tensor, or its output is
            overwritten by an in-place operation and ``copy`` is not set (`OverwrittenError`).
    """
    return Taps(model, paths, copy=copy)


class Taps(Mapping[str, Tensor]):
    """The outputs that `tap` collects, as a mapping from names to tensors in the order of the paths."""

    def __init__(self, model: nn.Module, paths: Mapping[str, str] | Iterable[str], *, copy: bool) -> None:
        self._model = _unwrapped(model)
        self._names = _names(paths)
        check_has_layers(self._model)
        self._modules = {path: _module(self._model, path) for path in self._names}
        self._copy = copy
        self._handles: list[RemovableHandle] = []
        self._is_running = False
        self._outputs: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._called: set[str] = set()

    def __enter__(self) -> Self:
        if self._handles:
            raise ValueError("this tap is already open; call tap() again for a second one.")
        self._handles.append(self._model.register_forward_pre_hook(self._begin))
        for path, module in self._modules.items():
            if path.endswith(_INPUT):
                self._handles.append(module.register_forward_pre_hook(self._input_recorder(path)))
            else:
                self._handles.append(module.register_forward_hook(self._output_recorder(path)))
        self._handles.append(self._model.register_forward_hook(self._end))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._is_running = False

    def __getitem__(self, name: str) -> Tensor:
        if name in self._outputs:
            return self._outputs[name]
        if name not in self._names.values():
            raise KeyError(f"no tap is called {name!r}; there are {', '.join(self._names.values())}.")
        raise ValueError(
            f"nothing has been tapped for {name!r} yet; run the network inside `with tap(…)`, and if it is "
            "compiled, let its first pass be inside too."
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.values())

    def __len__(self) -> int:
        return len(self._names)

    # torch.compile traces the hooks of the network itself apart from those of its modules. They therefore
    # handle no tensors, which in such a trace would warn of gradients that nobody asked for.

    def _begin(self, _model: nn.Module, _inputs: tuple[Any, ...]) -> None:
        self._outputs, self._versions, self._called = {}, {}, set()
        self._is_running = True

    def _end(self, _model: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        self._is_running = False
        for path in self._names:
            if path not in self._called:
                raise ValueError(
                    f"{path!r} was not called when the network ran; tap a module that takes part, and if the "
                    "network is compiled, let its first pass be inside `with tap(…)`."
                )
        if not torch.compiler.is_compiling():
            self._check_unchanged()

    def _check_unchanged(self) -> None:
        for path, name in self._names.items():
            if _version(self._outputs[name]) != self._versions.get(name, 0):
                raise OverwrittenError(
                    f"{path!r} was overwritten by a later in-place operation (a ReLU with inplace=True, or "
                    "+=); tap with copy=True, or another module."
                )

    def _input_recorder(self, path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._record(path, inputs[0] if inputs else None)

        return record

    def _output_recorder(self, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def record(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            self._record(path, output)

        return record

    def _record(self, path: str, value: Any) -> None:
        if not self._is_running:
            return  # a call from outside a pass, such as the recomputation of a checkpointed block
        if path in self._called:
            raise ValueError(
                f"{path!r} was called twice in one pass, so it has no single output; "
                "tap a module that is called once."
            )
        if not isinstance(value, Tensor):
            raise ValueError(f"{path!r} gives a {type(value).__name__} and not a tensor; tap another module.")
        name = self._names[path]
        self._called.add(path)
        self._outputs[name] = value.clone() if self._copy else value
        if not torch.compiler.is_compiling():
            self._versions[name] = _version(self._outputs[name])


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a path, wherever the network is wrapped.

    Raises:
        ValueError: there is no such module; near ones are named.
    """
    return _module(_unwrapped(model), path)


def embedding_path(model: nn.Module, images: Tensor) -> str:
    """The tap of what enters the linear layer whose output is the logits: the features that it classifies.

    Found by asking the network about a few images. Where the logits are made of such an output, scaled or
    normalised, it is the only linear layer that was called and is as wide as they are.

    Args:
        model: any network; left as it was.
        images: a few, on its device.

    Raises:
        ValueError: there is no such layer, or more than one.
    """
    network = _unwrapped(model)
    check_has_layers(network)
    outputs: list[tuple[str, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _, _inputs, output, path=path: outputs.append((path, output)))
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with untouched(network):
            logits = compute_logits(network.eval(), images)
    finally:
        for hook in hooks:
            hook.remove()
    as_wide = [(path, output.to(logits)) for path, output in outputs if output.shape == logits.shape]
    found = {path for path, output in as_wide if torch.equal(output, logits)} or {path for path, _ in as_wide}
    if len(found) != 1:
        which = f"has several, {', '.join(sorted(found))}," if found else "has none"
        raise ValueError(
            "the embedding is what enters the linear layer that gives the logits, and "
            f"{type(network).__name__} {which} that could be it; name the module in layers, "
            "such as 'classifier:input'."
        )
    return found.pop() + _INPUT


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what torch.compile, data parallelism and Lightning Fabric put around it."""
    if isinstance(model, DataParallel | DistributedDataParallel):
        return unwrapped(model.module)
    for name, inner in model.named_children():
        if name in ("_orig_mod", "_original_module"):
            return unwrapped(inner)
    return model


def check_has_layers(model: nn.Module) -> None:
    """Raise ValueError at a network into which nobody can look."""
    network = _unwrapped(model)
    if isinstance(network, Function | torch.jit.ScriptModule):
        kind = "a function" if isinstance(network, Function) else "TorchScript"
        raise ValueError(
            f"the network is {kind}, whose layers cannot be tapped; give the nn.Module itself, or leave out "
            "what compares layers."
        )


def _unwrapped(model: nn.Module) -> nn.Module:
    children = dict(model.named_children())
    if not children or not set(children) <= set(_WRAPPED):
        return model
    inner: nn.Module = next(iter(children.values()))
    return _unwrapped(inner)


def _names(paths: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    if isinstance(paths, str):
        raise ValueError(f"paths is the string {paths!r}; give a list of module paths, [{paths!r}].")
    names = dict(paths) if isinstance(paths, Mapping) else {path: path for path in paths}
    if not names:
        raise ValueError("there is nothing to tap; give at least one module path.")
    if len(set(names.values())) < len(names):
        raise ValueError(f"two taps have one name ({', '.join(names.values())}); give each its own.")
    return names


def _module(model: nn.Module, path: str) -> nn.Module:
    bare = path.removesuffix(_INPUT)
    try:
        return model.get_submodule(bare)
    except AttributeError as error:
        known = [name for name, _ in model.named_modules() if name]
        meant = close(bare, known) or [name for name, _ in model.named_children()]
        raise ValueError(
            f"{type(model).__name__} has no module {bare!r}; near it are {', '.join(meant)}."
        ) from error


def _version(value: Tensor) -> int:
    """How often the tensor has been written to; torch does not count it in inference mode."""
    return 0 if value.is_inference() else value._version
