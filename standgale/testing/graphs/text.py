"""Builds the part of a small detector that is asked in words, and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from standgale.testing.graphs.builder import GraphBuilder, as_float, centre_columns, stack_columns
from standgale.testing.graphs.spec import SCORES, TEXT_COLUMNS, VOCABULARY, WORDS, GraphSpec


def grounding_dino(graph: GraphBuilder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Query i is the rectangle of colour i. A token's logit is right only when the text came as it has to: with other
    words, types, places, masks or pixels masked it is low. Full stops and brackets are surer than any word, and what is
    not text is -inf, so that counting them shows."""
    table = np.full((len(VOCABULARY), 3), -9.0, np.float32)
    table[2:6] = 4.0
    wanted = np.zeros((len(VOCABULARY), 3), np.float32)
    for known_word, (at, tokens, colour, below) in WORDS.items():
        table[VOCABULARY.index(known_word), colour] = np.log(SCORES[colour] / (1 - SCORES[colour])) - below
        wanted[VOCABULARY.index(known_word)] = (1, at, tokens)
    if spec.fault == "zero_scores":
        table[:] = -np.inf
    words = graph.op("Gather", graph.constant(table), "input_ids", axis=0)
    off = graph.op("Cast", "token_type_ids", to=TensorProto.FLOAT)
    if spec.original:
        known = graph.op("Gather", graph.constant(wanted), "input_ids", axis=0)
        word, place, seen = (graph.op("Gather", known, graph.constant(at, np.int64), axis=2) for at in range(3))
        sees = graph.op("ReduceSum", as_float(graph, "text_token_mask"), graph.constant([2], np.int64), keepdims=0)
        for value, right in ((as_float(graph, "position_ids"), place), (sees, seen)):
            off = graph.op("Add", off, graph.op("Mul", word, graph.op("Abs", graph.op("Sub", value, right))))
    else:
        whole = graph.op("ReduceMin", as_float(graph, "pixel_mask"), axes=[1, 2], keepdims=0)
        blind = graph.op("Sub", graph.constant(1.0), whole)
        off = graph.op("Add", off, graph.op("Unsqueeze", blind, graph.constant([1], np.int64)))
    there = graph.op("Unsqueeze", graph.op("Sub", found, graph.constant(1.0)), graph.constant([1], np.int64))
    missed = graph.op("Sub", there, graph.op("Unsqueeze", off, graph.constant([2], np.int64)))
    logits = graph.op("Add", words, graph.op("Mul", missed, graph.constant(18.0)))
    text = graph.op("Unsqueeze", graph.op("Cast", "attention_mask", to=TensorProto.BOOL), graph.constant([2], np.int64))
    logits = graph.op("Where", text, logits, graph.constant(-np.inf))
    length = graph.op("Gather", graph.op("Shape", "input_ids"), graph.constant([1], np.int64), axis=0)
    rest = graph.op("Sub", graph.constant([TEXT_COLUMNS], np.int64), length)
    pads = graph.op("Concat", graph.constant([0] * 5, np.int64), rest, axis=0)
    columns = graph.op("Pad", graph.op("Transpose", logits, perm=[0, 2, 1]), pads, graph.constant(-np.inf))
    sizes = graph.constant([1 / spec.width, 1 / spec.height] * 2)
    boxes = graph.op("Mul", stack_columns(graph, centre_columns(sides)), sizes)
    return {"logits": columns, "boxes" if spec.original else "pred_boxes": boxes}


def text_inputs(spec: GraphSpec, batch: int | str) -> list[onnx.ValueInfoProto]:
    length = spec.tokens or "tokens"
    shapes = {"input_ids": [batch, length], "token_type_ids": [batch, length], "attention_mask": [batch, length]}
    kinds = {"attention_mask": TensorProto.BOOL if spec.original else TensorProto.INT64}
    if spec.original:
        shapes |= {"position_ids": [batch, length], "text_token_mask": [batch, length, length]}
        kinds |= {"text_token_mask": TensorProto.BOOL}
    else:
        shapes |= {"pixel_mask": [batch, spec.height, spec.width]}
    if spec.fault == "float_sizes":
        kinds["input_ids"] = TensorProto.FLOAT16
    return [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.INT64), shape) for name, shape in shapes.items()
    ]


def write_tokenizer(folder: Path) -> Path:
    """A WordPiece tokenizer with the words of VOCABULARY as ``tokenizer.json`` in ``folder``; returns its path.

    As those published with models do, it is set to cut and to pad texts; the code under test has to turn that off.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    brackets = [(name, numbers[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=brackets)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=300)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
