"""Trains the detector on rendered scenes and photographs: reproducible by seed, resumable, on a CPU."""

import argparse
import copy
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from schemas.errors import StandgaleError
from training.card import Recipe
from training.loss import Targets, TrainingLoss, detection_loss
from training.mixture.batches import Batch
from training.mixture.source import CropSource
from training.net import Net
from training.net_settings import NetSettings
from training.pool import TRAIN_SEEDS, ScenePool
from training.rendering import rendering
from training.starting_weights import load_exported
from training.train_settings import TrainSettings, learning_rate, pool_size, settings_text

_EMPTY = -2
# Batches on which the normalisations of starting weights are measured.
_START_BATCHES = 6


class TrainingError(StandgaleError):
    """Says that training cannot start or continue."""


@dataclass(frozen=True)
class TrainingProgress:
    """Reports a run after each step; losses are running means."""

    step: int
    steps: int
    box_loss: float
    class_loss: float
    mean_iou: float
    elapsed_s: float


def collate(batch: Batch) -> tuple[Tensor, Targets]:
    """Join crops to images (N, 3, S, S) RGB 0 to 1 and padded targets."""
    crops = batch.crops
    images = torch.from_numpy(np.stack([crop.image[:, :, ::-1] for crop in crops]))
    most = max(1, *(len(crop.labels) for crop in crops))
    boxes = torch.zeros(len(crops), most, 4)
    labels = torch.full((len(crops), most), _EMPTY, dtype=torch.int64)
    for row, crop in enumerate(crops):
        boxes[row, : len(crop.labels)] = torch.from_numpy(crop.boxes)
        labels[row, : len(crop.labels)] = torch.from_numpy(crop.labels)
    scaled = images.permute(0, 3, 1, 2).float().div_(255.0)
    return scaled.contiguous(memory_format=torch.channels_last), Targets(boxes, labels, torch.from_numpy(batch.known))


class Trainer:
    """Holds a run's state: the net, its running average, the optimiser and the step."""

    def __init__(self, settings: TrainSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.net = Net(settings.net).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99))
        self.step = 0
        self.means = {"box_loss": 1.0, "class_loss": 1.0, "mean_iou": 0.0}

    def start_from(self, path: Path, samples: list[Tensor]) -> None:
        """Take over the weights of an exported model; what it lacks stays random."""
        load_exported(self.net, path, samples)
        self.average.load_state_dict(self.net.state_dict())

    def advance(self, images: Tensor, targets: Targets) -> TrainingLoss:
        """Make one optimiser step on a batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        with torch.autocast("cpu", torch.bfloat16):
            raw = self.net(images)
        loss = detection_loss(raw, targets, (images.shape[2], images.shape[3]))
        if not torch.isfinite(loss.total):
            raise TrainingError(
                f"the loss became {float(loss.total.detach())} at step {self.step}: lower learning_rate"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        now = {"box_loss": loss.boxes, "class_loss": loss.classes, "mean_iou": loss.mean_iou}
        self.means = {name: mean + 0.02 * (now[name] - mean) for name, mean in self.means.items()}
        return loss

    def _follow(self) -> None:
        """Move the running average towards the net; fast at first, so that it does not keep the random start."""
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - decay)
                else:
                    kept.copy_(new)

    def save(self, path: Path, source: CropSource) -> None:
        """Write the whole state, atomically."""
        state = {
            "settings": settings_text(self.settings),
            "net_settings": asdict(self.settings.net),
            "steps": self.settings.steps,
            "step": self.step,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "means": self.means,
            "memory": source.photos.memory() if source.photos else {},
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)

    def resume(self, path: Path, source: CropSource) -> None:
        """Load a saved state of the same settings."""
        state = torch.load(path, weights_only=True)
        if state["settings"] != settings_text(self.settings):
            raise TrainingError(f"{path} belongs to a run with other settings: remove it or choose another folder")
        begun, planned = state["steps"] - self.settings.cool_down_steps, self.settings.steps
        if state["steps"] != planned and state["step"] > min(begun, planned - self.settings.cool_down_steps):
            raise TrainingError(
                f"steps is {planned}, but {path} is at step {state['step']} of {state['steps']}, where the learning "
                "rate already falls or would have to: keep the number of steps"
            )
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.means = state["step"], state["means"]
        if source.photos:
            source.photos.restore(state["memory"])


def train(settings: TrainSettings, progress: Callable[[TrainingProgress], None]) -> Path:
    """Train to the last step, from the checkpoint if there is one; returns the checkpoint's path.

    Raises TrainingError when the checkpoint is of a different run or when the loss is not finite,
    RenderingError when rendering fails, SelectionError or PhotographError when the photographs cannot be used.
    """
    torch.set_num_threads(settings.threads)
    settings.folder.mkdir(parents=True, exist_ok=True)
    pool_folder = settings.folder / "pool"
    trainer = Trainer(settings)
    pool = ScenePool(pool_folder)
    source = CropSource(settings, pool)
    if settings.checkpoint.exists():
        trainer.resume(settings.checkpoint, source)
    started = time.monotonic()

    with rendering(pool_folder, settings.scenes, settings.renderers) as wait, ThreadPoolExecutor(1) as side:

        def make(step: int) -> tuple[Batch, Tensor, Targets]:
            pool.grow_to(pool_size(settings, step), wait)
            batch = source.batch(step)
            return batch, *collate(batch)

        if trainer.step == 0 and settings.start is not None:
            trainer.start_from(settings.start, [make(step)[1] for step in range(_START_BATCHES)])
        coming = side.submit(make, trainer.step)
        while trainer.step < settings.steps:
            batch, images, targets = coming.result()
            # No batch is being cut at this moment, so a run can be repeated.
            source.settle()
            coming = side.submit(make, trainer.step + 1)
            loss = trainer.advance(images, targets)
            source.learn(batch, loss.highest.numpy())
            progress(
                TrainingProgress(trainer.step, settings.steps, elapsed_s=time.monotonic() - started, **trainer.means)
            )
            if trainer.step % settings.checkpoint_every == 0:
                trainer.save(settings.checkpoint, source)
        trainer.save(settings.checkpoint, source)
    return settings.checkpoint


def load_average(checkpoint: Path) -> Net:
    """Load the averaged net of a checkpoint, ready for use."""
    if not checkpoint.is_file():
        raise TrainingError(f"there is no checkpoint {checkpoint}: train first, or give the right folder")
    state = torch.load(checkpoint, weights_only=True)
    stored = state["net_settings"]
    net = Net(NetSettings(stored["classes"], tuple(stored["channels"])))
    net.load_state_dict(state["average"])
    net.eval()
    return net


def read_recipe(checkpoint: Path) -> Recipe:
    """Read how the net of a checkpoint was trained; the command has the settings that differ between runs."""
    state = torch.load(checkpoint, weights_only=True)
    kept = json.loads(state["settings"])
    command = (
        f"python -m training.train --steps {state['steps']} --seed {kept['seed']} --scenes {kept['scenes']} "
        f"--batch {kept['batch']} --crop-px {kept['crop_px']} --learning-rate {kept['learning_rate']} "
        f"--cool-down-steps {kept['cool_down_steps']}"
    )
    if kept["photographs"] is not None:
        command += f" --photographs FOLDER --selection training/selections/{Path(kept['selection']).name}"
    if kept["start"] is not None:
        command += f" --start {kept['start']}"
    seeds = f"{TRAIN_SEEDS[0]} to {TRAIN_SEEDS[kept['scenes'] - 1]}"
    return Recipe(command, seeds, kept["scenes"], state["step"])


def main() -> None:
    """Run the command line: python -m training.train --folder runs/small."""
    parser = argparse.ArgumentParser(description="Train the detector on rendered scenes and photographs.")
    default = TrainSettings(Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=default.folder)
    for name in (
        "steps",
        "batch",
        "crop_px",
        "seed",
        "first_scenes",
        "scenes",
        "cool_down_steps",
        "renderers",
        "threads",
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(default, name))
    parser.add_argument("--photographs", type=Path, help="folder of labelled photographs, see docs/models.md")
    parser.add_argument("--selection", type=Path, default=default.selection, help="which photographs are used")
    parser.add_argument("--start", type=Path, help="exported model.onnx whose weights the training starts with")
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    settings = TrainSettings(**vars(parser.parse_args()))
    with tqdm(total=settings.steps, unit="step", mininterval=5.0) as bar:

        def show(state: TrainingProgress) -> None:
            bar.update(state.step - bar.n)
            bar.set_postfix(
                box=f"{state.box_loss:.3f}", cls=f"{state.class_loss:.3f}", iou=f"{state.mean_iou:.3f}", refresh=False
            )

        path = train(settings, show)
    print(f"checkpoint: {path}")


if __name__ == "__main__":
    main()
