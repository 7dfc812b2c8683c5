"""Holds the settings of a training run, and what follows from them at each step."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from training.net_settings import NetSettings

SELECTION = Path(__file__).parent / "selections" / "aerial.yaml"


@dataclass(frozen=True)
class TrainSettings:
    """Holds the settings of one training run; the same settings on the same machine give the same net.

    folder holds the scene pool and the checkpoint. The pool begins with `first_scenes` and grows by one every
    `steps_per_scene` steps up to `scenes`, rendered by `renderers` processes. The learning rate warms up,
    stays, and falls over the last `cool_down_steps`: until these begin, a run may be resumed with other `steps`.
    """

    folder: Path
    photographs: Path | None = None
    """A folder of labelled photographs, see docs/models.md; without it the crops come from rendered scenes alone."""
    selection: Path = SELECTION
    """Which of the photographs are used."""
    start: Path | None = None
    """An exported model.onnx whose weights the net starts with; without it the net starts at random."""
    steps: int = 11_000
    batch: int = 12
    crop_px: int = 320
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.02
    warm_up_steps: int = 200
    cool_down_steps: int = 7_000
    ema_decay: float = 0.999
    seed: int = 1
    first_scenes: int = 150
    scenes: int = 480
    steps_per_scene: int = 15
    renderers: int = 1
    threads: int = 2
    checkpoint_every: int = 500
    net: NetSettings = field(default_factory=NetSettings)

    @property
    def checkpoint(self) -> Path:
        """The file of this run's state."""
        return self.folder / "checkpoint.pt"


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Return the learning rate of a step: warm-up, constant, then a fall to a hundredth along half a cosine."""
    rising = (step + 1) / settings.warm_up_steps
    cooled = max(0.0, 1 - (settings.steps - step) / settings.cool_down_steps)
    falling = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, cooled)))
    return settings.learning_rate * min(1.0, rising, falling)


def pool_size(settings: TrainSettings, step: int) -> int:
    """Return from how many scenes the crops of a step come; it depends on the step only, not on the rendering."""
    return min(settings.scenes, settings.first_scenes + step // settings.steps_per_scene)


def settings_text(settings: TrainSettings) -> str:
    """Return the settings that a resumed run may not change, as JSON."""
    free = ("folder", "steps", "renderers", "threads", "checkpoint_every")
    shown = {name: value for name, value in asdict(settings).items() if name not in free}
    return json.dumps(shown, sort_keys=True, default=str)
