"""Defines the net: small, anchor-free, convolutional, for objects of 8 to 250 pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.net_settings import NetSettings

STRIDES = (4, 8, 16)


class ConvBlock(nn.Module):
    """Applies convolution, batch normalisation and ReLU; becomes one convolution for export."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out: Tensor = functional.relu(self.norm(self.conv(x)), inplace=True)
        return out


class SplitStage(nn.Module):
    """Sends half the channels through residual pairs of convolutions, keeps all steps and mixes them."""

    def __init__(self, channels: int, repeats: int = 1) -> None:
        super().__init__()
        self.half = channels // 2
        self.enter = ConvBlock(channels, channels, 1)
        self.steps = nn.ModuleList(
            nn.Sequential(ConvBlock(self.half, self.half), ConvBlock(self.half, self.half)) for _ in range(repeats)
        )
        self.leave = ConvBlock(channels + repeats * self.half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        kept = list(self.enter(x).split((self.half, self.half), dim=1))
        for step in self.steps:
            kept.append(kept[-1] + step(kept[-1]))
        out: Tensor = self.leave(torch.cat(kept, dim=1))
        return out


class PoolContext(nn.Module):
    """Mixes in the surroundings by repeated max pooling, cheaply widening what each cell sees."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvBlock(channels, channels // 2, 1)
        self.leave = ConvBlock(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        kept = [self.enter(x)]
        for _ in range(3):
            kept.append(functional.max_pool2d(kept[-1], 5, 1, 2))
        out: Tensor = self.leave(torch.cat(kept, dim=1))
        return out


class Net(nn.Module):
    """Computes features to stride 16, carries them back to strides 8 and 4, and has an output layer at all three."""

    def __init__(self, settings: NetSettings) -> None:
        super().__init__()
        c2, c4, c8, c16 = settings.channels
        self.settings = settings
        self.stem = nn.Sequential(ConvBlock(3, c2, 3, 2), ConvBlock(c2, c4, 3, 2))
        self.fine = SplitStage(c4)
        self.middle = nn.Sequential(ConvBlock(c4, c8, 3, 2), SplitStage(c8))
        self.coarse = nn.Sequential(ConvBlock(c8, c16, 3, 2), SplitStage(c16), PoolContext(c16))
        self.coarse_to_middle = ConvBlock(c16, c8, 1)
        self.middle_mix = SplitStage(c8)
        self.middle_to_fine = ConvBlock(c8, c4, 1)
        self.fine_mix = nn.Sequential(ConvBlock(c4, c4), ConvBlock(c4, c4))
        self.middle_last = ConvBlock(c8, c8)
        self.coarse_last = nn.Sequential(ConvBlock(c16, c8, 1), ConvBlock(c8, c8))
        outputs = 4 + settings.classes
        self.heads = nn.ModuleList([nn.Conv2d(channels, outputs, 1) for channels in (c4, c8, c8)])
        self._start_rare()

    def _start_rare(self) -> None:
        """Begin with low class scores, because objects are rare, and with boxes of a few cells."""
        for head in self.heads:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.normal_(head.weight, std=0.01)
            nn.init.constant_(head.bias[:4], 0.7)
            nn.init.constant_(head.bias[4:], -4.6)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) RGB 0 to 1, H and W multiples of 16, to a raw (N, 4 + classes, H / s, W / s) per stride."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.middle_mix(middle + functional.interpolate(self.coarse_to_middle(coarse), scale_factor=2.0))
        fine = self.fine_mix(fine + functional.interpolate(self.middle_to_fine(middle), scale_factor=2.0))
        return [self.heads[0](fine), self.heads[1](self.middle_last(middle)), self.heads[2](self.coarse_last(coarse))]


def cell_centres(rows: int, cols: int, stride: int, device: torch.device) -> Tensor:
    """Return the centres of a grid's cells in input pixels, (rows · cols, 2), row by row."""
    ys = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * stride
    xs = (torch.arange(cols, device=device, dtype=torch.float32) + 0.5) * stride
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)
    return grid.reshape(-1, 2)


def decode_raw(raw: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Decode raw outputs to boxes (N, A, 4) xyxy in pixels and class logits (N, A, classes), finest stride first."""
    boxes, logits = [], []
    for level, stride in zip(raw, STRIDES, strict=True):
        rows, cols = level.shape[2:]
        flat = level.flatten(2).transpose(1, 2).float()
        # The distance to each side, never negative, and smooth where it is small.
        sides = functional.softplus(flat[..., :4]) * float(2 * stride)
        centres = cell_centres(rows, cols, stride, level.device)
        boxes.append(torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1))
        logits.append(flat[..., 4:])
    return torch.cat(boxes, dim=1), torch.cat(logits, dim=1)


class ExportNet(nn.Module):
    """Wraps the net to have the YOLOv8 export layout: (N, 4 + classes, A), cxcywh pixels, classes sigmoided."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB 0 to 1 to (N, 4 + classes, A)."""
        boxes, logits = decode_raw(self.net(images))
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], dim=-1).transpose(1, 2)
