"""Trains the detector from scratch on rendered scenes: reproducible by seed, resumable, on a CPU."""

import argparse
import copy
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from infra.process.safe_path import children_with_safe_path
from schemas.errors import StandgaleError
from training.card import Recipe
from training.loss import Targets, detection_loss
from training.net import Net, NetSettings
from training.pool import TRAIN_SEEDS, Crop, ScenePool, fill_pool

_EMPTY = -2


class TrainingError(StandgaleError):
    """Says that training cannot start or continue."""


@dataclass(frozen=True)
class TrainSettings:
    """Holds the settings of one training run; the same settings on the same machine give the same net.

    folder holds the scene pool and the checkpoint. The pool begins with `first_scenes` and grows by one every
    `steps_per_scene` steps up to `scenes`, rendered by `renderers` processes. The learning rate warms up,
    stays, and falls over the last `cool_down_steps`: until these begin, a run may be resumed with other `steps`.
    """

    folder: Path
    steps: int = 6_000
    batch: int = 24
    crop_px: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up_steps: int = 200
    cool_down_steps: int = 1_500
    ema_decay: float = 0.998
    seed: int = 1
    first_scenes: int = 48
    scenes: int = 480
    steps_per_scene: int = 8
    renderers: int = 1
    threads: int = 2
    checkpoint_every: int = 500
    net: NetSettings = field(default_factory=NetSettings)

    @property
    def checkpoint(self) -> Path:
        """The file of this run's state."""
        return self.folder / "checkpoint.pt"


@dataclass(frozen=True)
class TrainingProgress:
    """Reports a run after each step; losses are running means."""

    step: int
    steps: int
    box_loss: float
    class_loss: float
    mean_iou: float
    elapsed_s: float


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Return the learning rate of a step: warm-up, constant, then a linear fall to a hundredth."""
    rising = (step + 1) / settings.warm_up_steps
    falling = 0.01 + 0.99 * (settings.steps - step) / settings.cool_down_steps
    return settings.learning_rate * min(1.0, rising, falling)


def pool_size(settings: TrainSettings, step: int) -> int:
    """Return from how many scenes the crops of a step come; it depends on the step only, not on the rendering."""
    return min(settings.scenes, settings.first_scenes + step // settings.steps_per_scene)


def collate(crops: list[Crop]) -> tuple[Tensor, Targets]:
    """Join crops to images (N, 3, S, S) RGB 0 to 1 and padded targets."""
    images = torch.from_numpy(np.stack([crop.image[:, :, ::-1] for crop in crops]))
    most = max(1, *(len(crop.labels) for crop in crops))
    boxes = torch.zeros(len(crops), most, 4)
    labels = torch.full((len(crops), most), _EMPTY, dtype=torch.int64)
    for row, crop in enumerate(crops):
        boxes[row, : len(crop.labels)] = torch.from_numpy(crop.boxes)
        labels[row, : len(crop.labels)] = torch.from_numpy(crop.labels)
    scaled = images.permute(0, 3, 1, 2).float().div_(255.0)
    return scaled.contiguous(memory_format=torch.channels_last), Targets(boxes, labels)


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

    def advance(self, images: Tensor, targets: Targets) -> None:
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

    def _follow(self) -> None:
        """Move the running average towards the net; fast at first, so that it does not keep the random start."""
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - decay)
                else:
                    kept.copy_(new)

    def save(self, path: Path) -> None:
        """Write the whole state, atomically."""
        state = {
            "settings": _settings_text(self.settings),
            "net_settings": asdict(self.settings.net),
            "steps": self.settings.steps,
            "step": self.step,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "means": self.means,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)

    def resume(self, path: Path) -> None:
        """Load a saved state of the same settings."""
        state = torch.load(path, weights_only=True)
        if state["settings"] != _settings_text(self.settings):
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


def _settings_text(settings: TrainSettings) -> str:
    free = ("folder", "steps", "renderers", "threads", "checkpoint_every")
    shown = {name: value for name, value in asdict(settings).items() if name not in free}
    return json.dumps(shown, sort_keys=True)


def _render(pool_folder: Path, count: int, first: int, step: int) -> None:
    """Fill a share of the pool with one thread, at a lower priority than the training."""
    os.nice(3)
    cv2.setNumThreads(1)

    def leave_with_the_training(_: int) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit(0)

    fill_pool(pool_folder, count, leave_with_the_training, first=first, step=step)


@contextmanager
def _renderers(settings: TrainSettings, pool_folder: Path) -> Iterator[Callable[[], None]]:
    """Start processes that fill the pool; yields a function that waits for them for a short time."""
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(
            target=_render,
            args=(pool_folder, settings.scenes, first, settings.renderers),
            daemon=True,
        )
        for first in range(settings.renderers)
    ]
    with children_with_safe_path():
        for job in jobs:
            job.start()

    def wait() -> None:
        if not jobs:
            raise TrainingError(f"{pool_folder} lacks scenes and renderers is 0: give at least one renderer")
        if any(job.exitcode not in (None, 0) for job in jobs):
            raise TrainingError(
                f"a process rendering scenes into {pool_folder} died: see its error above, check free space"
            )
        time.sleep(0.2)

    try:
        yield wait
    finally:
        for job in jobs:
            job.terminate()
            job.join()


def train(settings: TrainSettings, progress: Callable[[TrainingProgress], None]) -> Path:
    """Train to the last step, from the checkpoint if there is one; returns the checkpoint's path.

    Raises TrainingError when the checkpoint is of a different run, when rendering fails or when the loss is not finite.
    """
    torch.set_num_threads(settings.threads)
    settings.folder.mkdir(parents=True, exist_ok=True)
    pool_folder = settings.folder / "pool"
    trainer = Trainer(settings)
    if settings.checkpoint.exists():
        trainer.resume(settings.checkpoint)
    pool = ScenePool(pool_folder)
    started = time.monotonic()

    with _renderers(settings, pool_folder) as wait, ThreadPoolExecutor(1) as side:

        def batch(step: int) -> tuple[Tensor, Targets]:
            pool.grow_to(pool_size(settings, step), wait)
            rng = np.random.default_rng([settings.seed, step])
            return collate([pool.crop(rng, settings.crop_px) for _ in range(settings.batch)])

        coming = side.submit(batch, trainer.step)
        while trainer.step < settings.steps:
            images, targets = coming.result()
            coming = side.submit(batch, trainer.step + 1)
            trainer.advance(images, targets)
            progress(
                TrainingProgress(trainer.step, settings.steps, elapsed_s=time.monotonic() - started, **trainer.means)
            )
            if trainer.step % settings.checkpoint_every == 0:
                trainer.save(settings.checkpoint)
    trainer.save(settings.checkpoint)
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
        f"--batch {kept['batch']} --crop-px {kept['crop_px']} --learning-rate {kept['learning_rate']}"
    )
    seeds = f"{TRAIN_SEEDS[0]} to {TRAIN_SEEDS[kept['scenes'] - 1]}"
    return Recipe(command, seeds, kept["scenes"], state["step"])


def main() -> None:
    """Run the command line: python -m training.train --folder runs/small."""
    parser = argparse.ArgumentParser(description="Train the detector on rendered scenes.")
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
