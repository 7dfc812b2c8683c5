"""The scene generator: deterministic, true boxes, promised sizes, every class."""

import numpy as np
import pytest

from training.scenes import CLASS_NAMES, Flight, SceneSpec, render_scene
from training.scenes.clutter import LAND, SEA, draw_clutter
from training.scenes.flight import crop_boxes
from training.scenes.spec import SceneSpecError
from training.scenes.sprites import draw_object, tone_against


@pytest.fixture(scope="module")
def flight() -> Flight:
    return Flight(seed=3, frame_size=(400, 300), frames=7, scene_size=(800, 640), density=8.0)


def test_same_spec_same_scene_and_another_seed_another() -> None:
    first, again, other = (render_scene(SceneSpec(320, 240, seed, 4.0)) for seed in (11, 11, 12))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("label", range(len(CLASS_NAMES)))
def test_boxes_are_tight_around_what_is_drawn(label: int) -> None:
    rng = np.random.default_rng(label)
    for size in (9.0, 17.0, 40.0, 75.0):
        heading = float(rng.uniform(0, 2 * np.pi))
        sprite = draw_object(rng, label, 100.3, 80.7, heading, size, (200.0, 30.0, 30.0))
        rows, cols = np.flatnonzero(sprite.alpha.any(axis=1)), np.flatnonzero(sprite.alpha.any(axis=0))
        drawn = (sprite.x + cols[0], sprite.y + rows[0], sprite.x + cols[-1] + 1, sprite.y + rows[-1] + 1)
        # Shrinking spreads the outline over whole pixels: at most one pixel out, never inside by more than rounding.
        assert np.abs(np.array(drawn) - sprite.box).max() <= 1.0 + 1e-6
        assert sprite.box[0] < 100.3 < sprite.box[2]
        assert sprite.box[1] < 80.7 < sprite.box[3]


def test_objects_differ_from_the_ground_they_are_seen_on() -> None:
    plain = SceneSpec(400, 300, 21, 0.0)
    scene = render_scene(SceneSpec(400, 300, 21, 8.0))
    assert len(render_scene(plain).labels) == 0
    assert len(scene.labels) > 0
    for left, top, right, bottom in scene.boxes.astype(int):
        patch = scene.image[top : bottom + 1, left : right + 1].astype(float)
        assert patch.std(axis=(0, 1)).max() > 2.0


def test_tone_against_differs_from_the_background() -> None:
    rng = np.random.default_rng(1)
    background = np.array([235.0, 235.0, 235.0])
    distances = [np.abs(np.array(tone_against(rng, 0, background, 40.0)) - background).max() for _ in range(50)]
    assert min(distances) > 30


@pytest.mark.parametrize("kind", sorted(set(LAND + SEA)))
def test_clutter_has_about_the_requested_size(kind: str) -> None:
    sprite = draw_clutter(np.random.default_rng(2), kind, 50.0, 50.0, 24.0)
    assert 8.0 <= sprite.longest <= 30.0


@pytest.mark.parametrize(
    ("width", "height", "seed", "density", "word"),
    [(63, 480, 0, 1.0, "63x480"), (640, 480, -1, 1.0, "-1"), (640, 480, 0, 21.0, "21.0")],
)
def test_scene_spec_wrong_value_raises_scene_spec_error(
    width: int, height: int, seed: int, density: float, word: str
) -> None:
    with pytest.raises(SceneSpecError, match=word):
        SceneSpec(width, height, seed, density)


def test_flight_frames_are_windows_of_one_scene(flight: Flight) -> None:
    frames = list(flight)
    assert len(frames) == len(flight) == 7
    for frame, (left, top, right, bottom) in zip(frames, flight.windows(), strict=True):
        assert frame.image.shape == (300, 400, 3)
        assert np.array_equal(frame.image, flight.scene.image[top:bottom, left:right])
        assert (frame.boxes >= 0).all()
        assert (frame.boxes[:, 2:] <= (400, 300)).all()
        inside = (flight.scene.boxes[:, :2] >= (left, top)).all(axis=1) & (
            flight.scene.boxes[:, 2:] <= (right, bottom)
        ).all(axis=1)
        moved = flight.scene.boxes[inside] - np.array([left, top, left, top], np.float32)
        kept = {tuple(box) for box in frame.boxes.tolist()}
        assert {tuple(box) for box in moved.tolist()} <= kept
    assert len({frame.image.tobytes() for frame in frames}) > 1


def test_flights_repeat_by_seed(flight: Flight) -> None:
    again = Flight(seed=3, frame_size=(400, 300), frames=7, scene_size=(800, 640), density=8.0)
    assert list(again.windows()) == list(flight.windows())
    assert np.array_equal(again.scene.image, flight.scene.image)


def test_boxes_mostly_outside_a_window_are_dropped() -> None:
    boxes = np.array([(10, 10, 30, 30), (-12, 10, 8, 30), (-8, 10, 12, 30), (90, 90, 130, 130)], np.float32)
    cropped, labels = crop_boxes(boxes, np.array([0, 1, 2, 3]), (0, 0, 100, 100))
    assert labels.tolist() == [0, 2]
    assert cropped.tolist() == [[10, 10, 30, 30], [0, 10, 12, 30]]


def test_flight_that_does_not_fit_raises_scene_spec_error() -> None:
    with pytest.raises(SceneSpecError, match="scene_size"):
        Flight(seed=1, frame_size=(900, 300), scene_size=(800, 640))
    with pytest.raises(SceneSpecError, match="frames is 0"):
        Flight(seed=1, frames=0)
