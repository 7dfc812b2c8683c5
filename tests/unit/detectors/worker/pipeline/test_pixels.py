"""Checks that memory of decoded frames is reused, never by two frames at a time, and bounded."""

from __future__ import annotations

import cv2
import numpy as np

from detectors.images.decode import decode_image
from detectors.worker.pipeline.pixels import PixelPool


def test_pixel_pool_reuses_buffer_for_frames_of_similar_size() -> None:
    pool = PixelPool(1_000)
    buffer = pool.take(100)
    assert pool.take(100) is not buffer
    pool.give(buffer)
    assert pool.take(101) is not buffer
    assert pool.take(49) is not buffer
    assert pool.take(50) is buffer
    assert pool.take(50) is not buffer


def test_pixel_pool_keeps_bounded_bytes_and_releases_the_oldest() -> None:
    pool = PixelPool(250)
    buffers = [pool.take(size) for size in (90, 100, 110)]
    for buffer in buffers:
        pool.give(buffer)
    assert pool.take(90) is buffers[1]
    assert pool.take(110) is buffers[2]
    pool.give(pool.take(1_000))
    assert pool.take(1_000).size == 1_000


def test_jpeg_decoded_into_given_memory_has_the_same_pixels() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    memory = np.full(48 * 64 * 3 + 7, 200, np.uint8)
    image = decode_image(data, max_pixels=10_000, memory=lambda size: memory if size == 48 * 64 * 3 else memory[:0])
    assert np.shares_memory(image, memory)
    assert (image == decode_image(data, max_pixels=10_000)).all()
    assert (memory[-7:] == 200).all()
