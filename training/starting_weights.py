"""Takes the weights of an exported model as the start of a training."""

from collections.abc import Iterable
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from schemas.errors import StandgaleError
from training.net import ConvBlock, Net

_MOST_BYTES = 200_000_000


class StartingWeightsError(StandgaleError):
    """Says that a file's weights do not fit the net."""


def load_exported(net: Net, path: Path, samples: Iterable[Tensor]) -> list[str]:
    """Fill the net from an ONNX file that `training.export` wrote; returns the parts that the file lacks.

    The export folded each normalisation into its convolution. `samples`, images (N, 3, H, W) 0 to 1, give the mean and
    spread of each convolution's output, from which a normalisation is made that computes the same.
    Raises StartingWeightsError when the file is missing or holds other shapes.
    """
    stored = _initializers(path)
    folded: dict[str, tuple[ConvBlock, Tensor]] = {}
    lacking = []
    for name, module in net.named_modules():
        if isinstance(module, ConvBlock):
            weight, bias = _pair(stored, f"{name}.conv")
            if weight is None or bias is None:
                lacking.append(name)
                continue
            _fill(module.conv.weight, weight, path, name)
            _act_as_bias(module.norm, bias)
            folded[name] = (module, bias)
    for number, head in enumerate(net.heads):
        weight, bias = _pair(stored, f"heads.{number}")
        if weight is None or bias is None:
            lacking.append(f"heads.{number}")
            continue
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        _fill(head.weight, weight, path, f"heads.{number}")
        _fill(head.bias, bias, path, f"heads.{number}")
    if not folded:
        raise StartingWeightsError(f"{path} has no weights of this net: give a model.onnx that training.export wrote")
    _normalise(net, folded, samples)
    return lacking


def _initializers(path: Path) -> dict[str, Tensor]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise StartingWeightsError(f"{path} has more than {_MOST_BYTES} bytes: it is no export of this net")
        graph = onnx.load(str(path), load_external_data=False).graph
    except StandgaleError:
        raise
    except Exception as error:  # protobuf's DecodeError has no base class below Exception that could be named here
        raise StartingWeightsError(f"{path} cannot be read as ONNX: {error}") from error
    return {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}


def _pair(stored: dict[str, Tensor], name: str) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias of a layer, whatever the exporter put before its name."""

    def found(ending: str) -> Tensor | None:
        return next((value for key, value in stored.items() if key == ending or key.endswith(f".{ending}")), None)

    return found(f"{name}.weight"), found(f"{name}.bias")


def _fill(target: Tensor, value: Tensor, path: Path, name: str) -> None:
    if target.shape != value.shape:
        raise StartingWeightsError(
            f"{path}: {name} has shape {tuple(value.shape)}, the net {tuple(target.shape)}: it is another net"
        )
    with torch.no_grad():
        target.copy_(value)


def _act_as_bias(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    """Make a normalisation add a bias and do nothing else."""
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)


def _normalise(net: Net, folded: dict[str, tuple[ConvBlock, Tensor]], samples: Iterable[Tensor]) -> None:
    """Measure each convolution's output on the samples, and move its mean and spread into the normalisation."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in folded}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[name].append((output.float().mean((0, 2, 3)), output.float().var((0, 2, 3))))

        return folded[name][0].conv.register_forward_hook(note)

    hooks = [watch(name) for name in folded]
    net.eval()
    with torch.no_grad():
        for images in samples:
            net(images)
        for hook in hooks:
            hook.remove()
        for name, (block, bias) in folded.items():
            norm = block.norm
            assert norm.running_mean is not None and norm.running_var is not None
            mean = torch.stack([one for one, _ in seen[name]]).mean(0)
            spread = torch.stack([one for _, one in seen[name]]).mean(0).clamp(min=1e-4)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(spread)
            norm.weight.copy_((spread + norm.eps).sqrt())
            norm.bias.copy_(bias + mean)
    net.train()
