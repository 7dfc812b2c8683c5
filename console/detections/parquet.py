"""Writes detections as Parquet, one row group at a time; it needs the extra ``parquet``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, ClassVar

from console.detections.rows import DetectionRow
from infra.extras import install_extra
from infra.http_api.errors.api_errors import ApiError

_GROUP_ROWS = 10_000
"""Some megabytes; smaller groups make large files, and larger ones take more memory."""


class FormatUnavailableError(ApiError):
    """The server cannot write the format, because a library is not installed."""

    code = "FORMAT_UNAVAILABLE"
    status = 501


class ParquetWriter:
    """Writes one Parquet file; pages are collected until they fill a row group."""

    media_type: ClassVar[str] = "application/vnd.apache.parquet"

    def __init__(self) -> None:
        """Raises FormatUnavailableError without the library."""
        try:
            import pyarrow  # noqa: PLC0415 (170 MB that only this format needs)
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as error:
            raise FormatUnavailableError(
                "this server writes no Parquet, because pyarrow is not installed",
                details=f"Ask for format=csv, or tell the operator: {install_extra('parquet')}.",
                field="format",
            ) from error
        self._arrow: Any = pyarrow
        self._schema = _schema(pyarrow)
        self._out = _Pieces()
        self._writer: Any = parquet.ParquetWriter(self._out, self._schema, compression="zstd")
        self._waiting: list[DetectionRow] = []

    def begin(self) -> bytes:
        """Return the first bytes of the file."""
        return self._out.taken()

    def rows(self, rows: Sequence[DetectionRow]) -> bytes:
        """Return the row groups that ``rows`` complete."""
        self._waiting += rows
        if len(self._waiting) >= _GROUP_ROWS:
            self._write()
        return self._out.taken()

    def end(self, next_after: str | None) -> bytes:
        """Return the last row group and the directory of the file."""
        del next_after
        if self._waiting:
            self._write()
        self._writer.close()
        return self._out.taken()

    def _write(self) -> None:
        rows, self._waiting = self._waiting, []
        plain = [{**row, "id": str(row["id"]), "frame_id": str(row["frame_id"])} for row in rows]
        self._writer.write_table(self._arrow.Table.from_pylist(plain, self._schema))


class _Pieces(io.RawIOBase):
    """Takes what a library writes to a file, and gives it away."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _schema(arrow: Any) -> Any:
    """Return the columns of the file, in the order of a detection's fields."""
    text, number, moment = arrow.string(), arrow.float64(), arrow.timestamp("us", tz="UTC")
    return arrow.schema(
        [
            arrow.field("id", text, nullable=False),
            arrow.field("frame_id", text, nullable=False),
            arrow.field("device_id", text, nullable=False),
            arrow.field("captured_at", moment, nullable=False),
            arrow.field("detected_at", moment, nullable=False),
            arrow.field("label", text, nullable=False),
            ("class_id", arrow.int32()),
            arrow.field("confidence", number, nullable=False),
            arrow.field("x_min", number, nullable=False),
            arrow.field("y_min", number, nullable=False),
            arrow.field("x_max", number, nullable=False),
            arrow.field("y_max", number, nullable=False),
            ("corners", arrow.list_(number)),
            arrow.field("frame_width", arrow.int32(), nullable=False),
            arrow.field("frame_height", arrow.int32(), nullable=False),
            arrow.field("model_name", text, nullable=False),
            arrow.field("model_version", text, nullable=False),
            ("flight_id", text),
            ("filename", text),
            ("lakefs_path", text),
            ("latitude", number),
            ("longitude", number),
        ]
    )
