"""Recognises model files of formats other than ONNX, and says how to make ONNX of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_ULTRALYTICS = "yolo export model={name} format=onnx"
_TORCH = (
    f"for a model of Ultralytics run `{_ULTRALYTICS}`, for others torch.onnx.export in the project it is from; "
    "then `standgale model inspect` of the ONNX file with --write"
)
# How to export each format, by the ends of file names.
_ENDINGS: Mapping[tuple[str, ...], tuple[str, str]] = {
    (".pt", ".pth", ".ckpt", ".torchscript"): ("a file of PyTorch", _TORCH),
    (".pt2",): (
        "a program that torch exported",
        "give the ONNX file of the same model; the program goes under files in its card",
    ),
    (".engine", ".plan", ".trt"): (
        "an engine of TensorRT, which fits one GPU only",
        "give the ONNX file from which it was built; Standgale builds its own engine",
    ),
    (".tflite", ".pb", ".h5", ".keras"): (
        "a file of TensorFlow",
        "convert it with tf2onnx (python -m tf2onnx.convert --opset 17), "
        "then run `standgale model inspect` with --write on the result",
    ),
    (".safetensors",): ("weights without a graph", _TORCH),
    (".mlmodel", ".mlpackage"): ("a file of Core ML", "export ONNX from the project it is from"),
    (".xml", ".bin"): ("a file of OpenVINO", "give the ONNX file from which it was converted"),
    (".param", ".ncnn"): ("a file of ncnn", "give the ONNX file from which it was converted"),
}
# The first bytes of files that show their format whatever they are called.
_ZIP, _PICKLE, _TFLITE, _HDF5 = b"PK\x03\x04", b"\x80\x02", b"TFL3", b"\x89HDF"


def foreign_format(path: Path, first_bytes: bytes = b"") -> str | None:
    """Return what the file at ``path`` is and how to get ONNX of it, or None when nothing shows another format."""
    ending = path.suffix.lower()
    if first_bytes.startswith((_ZIP, _PICKLE)):
        ending = ending if ending in (".pt2", ".keras") else ".pt"
    elif first_bytes[4:8] == _TFLITE:
        ending = ".tflite"
    elif first_bytes.startswith(_HDF5):
        ending = ".h5"
    for endings, (what, remedy) in _ENDINGS.items():
        if ending in endings:
            return f"{path} is {what}, not ONNX; {remedy.format(name=path.name)}"
    return None


def no_card(path: Path) -> str | None:
    """Return why the file at ``path``, given as a card, is a model, and how to get a card; None when it is none."""
    if path.suffix.lower() == ".onnx":
        return (
            f"{path} is a model without its card; write the card with `standgale model inspect {path} --write`, "
            "then give the model.yaml that it writes"
        )
    return foreign_format(path)
