"""The page of the stream: its example in bytes is a frame, its client is short, its codes are those of the gateway."""

from __future__ import annotations

import re

from ingest.stream.closing import CloseCode
from ingest.stream.wire import read_frame
from schemas.frame_messages import SUBPROTOCOL
from tests.harnesses.stream_outages import client_of_the_page
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "stream.md").read_text()


def test_stream_page_shows_the_bytes_of_a_frame() -> None:
    example = next(block for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if block.startswith("01 00"))
    rows = [re.match(r"(?:[0-9a-f]{2} {1,2})*[0-9a-f]{2}", line) for line in example.splitlines()[:-1]]
    data = bytes.fromhex("".join(row[0] for row in rows if row))
    frame = read_frame(data + bytes(200_000))
    assert (frame.sequence, frame.fields) == (7, b'{"captured_at":"2026-01-31T12:00:00Z"}')


def test_stream_page_has_a_client_of_at_most_60_lines() -> None:
    client = client_of_the_page()
    compile(client, "send.py", "exec")
    assert len(client.splitlines()) <= 60
    assert SUBPROTOCOL in client and SUBPROTOCOL in PAGE


def test_stream_page_has_every_close_code() -> None:
    table = {int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", PAGE, re.MULTILINE) for code in row.split(", ")}
    assert table >= {*CloseCode, 1001, 1002, 1006, 1007, 1008, 1009}
