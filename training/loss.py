"""Assigns grid cells to objects and computes the training loss."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.crops import IGNORED
from training.net import STRIDES, cell_centres, decode_raw

# The longer side in pixels of the objects of each stride; where two ranges overlap, an object is assigned to both.
_LENGTHS_PX = ((0.0, 30.0), (22.0, 110.0), (80.0, float("inf")))
_CENTRE_RADIUS_CELLS = 1.5


@dataclass(frozen=True, eq=False)
class Targets:
    """Holds the padded ground truth of a batch: boxes (N, M, 4) xyxy pixels, labels (N, M), IGNORED, -2 where empty."""

    boxes: Tensor
    labels: Tensor
    known: Tensor
    """Per picture the classes of which every object is labelled, (N, classes) bool; others are left out of the loss."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """Holds per cell the index of its object or -1, (N, A), and whether the cell is left out of the loss, (N, A)."""

    owner: Tensor
    ignored: Tensor


def assign(targets: Targets, height: int, width: int) -> Assignment:
    """Assign to each object the cells around its centre at the stride for its size; the smaller object gets a cell."""
    boxes, labels = targets.boxes[:, :, None, :], targets.labels
    size = (targets.boxes[..., 2:] - targets.boxes[..., :2]).clamp(min=1e-3)
    longest, area = size.amax(dim=-1), size.prod(dim=-1)
    owners, ignores = [], []
    for stride, (shortest, longest_px) in zip(STRIDES, _LENGTHS_PX, strict=True):
        centres = cell_centres(height // stride, width // stride, stride, boxes.device)
        inside = ((centres > boxes[..., :2]) & (centres < boxes[..., 2:])).all(dim=-1)
        offset = (centres - (boxes[..., :2] + boxes[..., 2:]) / 2).abs().amax(dim=-1)
        suits = (longest >= shortest) & (longest <= longest_px)
        near = (offset < _CENTRE_RADIUS_CELLS * stride) & inside
        # Thin objects can miss every cell centre, so the nearest cell is always assigned to them.
        nearest = offset <= offset.amin(dim=-1, keepdim=True) + 1e-4
        positive = (near | nearest) & (suits & (labels >= 0))[..., None]
        cost = torch.where(positive, area[..., None], torch.inf)
        best, owner = cost.min(dim=1)
        owners.append(torch.where(best.isinf(), -1, owner))
        ignores.append((inside & (labels == IGNORED)[..., None]).any(dim=1))
    return Assignment(torch.cat(owners, dim=1), torch.cat(ignores, dim=1))


def complete_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and complete IoU of pairs of xyxy boxes, each (K,)."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    sides_a, sides_b = first[:, 2:] - first[:, :2], second[:, 2:] - second[:, :2]
    iou = shared / (sides_a.prod(dim=1) + sides_b.prod(dim=1) - shared + 1e-7)
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    gap = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]).square().sum(dim=1) / 4
    shape_a = torch.atan2(sides_a[:, 0], sides_a[:, 1].clamp(min=1e-6))
    shape_b = torch.atan2(sides_b[:, 0], sides_b[:, 1].clamp(min=1e-6))
    shape = (4 / torch.pi**2) * (shape_a - shape_b).square()
    weight = (shape / (1 - iou + shape + 1e-7)).detach()
    return iou, iou - gap / (hull.square().sum(dim=1) + 1e-7) - weight * shape


@dataclass(frozen=True, eq=False)
class TrainingLoss:
    """Holds the sum to minimise, and its parts for the log."""

    total: Tensor
    boxes: float
    classes: float
    mean_iou: float
    highest: Tensor
    """The highest score of a known class on each picture outside ignored regions, (N,)."""


def detection_loss(raw: list[Tensor], targets: Targets, image_size: tuple[int, int]) -> TrainingLoss:
    """Compute box and class loss of a batch; image_size is (height, width) in pixels.

    A positive cell's class target is how well its box fits, so that the score predicts the quality of the box.
    """
    boxes, logits = decode_raw(raw)
    assignment = assign(targets, *image_size)
    rows, cells = torch.nonzero(assignment.owner >= 0, as_tuple=True)
    owners = assignment.owner[rows, cells]
    iou, ciou = complete_iou(boxes[rows, cells], targets.boxes[rows, owners])
    goal = torch.zeros_like(logits)
    quality = (0.2 + 0.8 * iou.detach()).clamp(0, 1)
    goal[rows, cells, targets.labels[rows, owners]] = quality
    scores = logits.detach().sigmoid()
    # Easy background has a very small weight, because there is so much more of it than of objects.
    judged = (~assignment.ignored)[..., None]
    weight = torch.where(goal > 0, goal, 0.75 * scores.square()) * judged * targets.known[:, None, :]
    per_class = functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    count = max(1.0, float(quality.sum()))
    class_loss = (per_class * weight).sum() / count
    box_loss = ((1 - ciou) * quality).sum() / count
    mean_iou = float(iou.detach().mean()) if len(iou) else 0.0
    highest = (scores * judged * targets.known[:, None, :]).flatten(1).amax(dim=1)
    total = class_loss + 2.0 * box_loss
    return TrainingLoss(total, float(box_loss.detach()), float(class_loss.detach()), mean_iou, highest)
