"""Models so small that a test makes them: the vector of a token is a row of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "dog", "tax")
TYPES = {"int64": TensorProto.INT64, "int32": TensorProto.INT32, "float": TensorProto.FLOAT}


def table(dimensions: int) -> np.ndarray:
    """The vector of each word; that of what fills up is far from all others."""
    rows = np.random.default_rng(7).normal(size=(len(WORDS), dimensions)).astype(np.float32)
    rows[0] = 1000
    return rows


def make_tokenizer(directory: Path, *, special: bool = True, words: tuple[str, ...] = WORDS) -> None:
    """Write tokenizer.json. Its own padding and truncation, which many have, are not what an embedder wants."""
    vocabulary = {word: at for at, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]" if special else "cat"))
    tokenizer.pre_tokenizer = Whitespace()
    if special:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        )
    tokenizer.enable_padding(length=300)
    tokenizer.enable_truncation(max_length=5)
    tokenizer.save(str(directory / "tokenizer.json"))


def make_model(
    directory: Path,
    *,
    dimensions: int = 8,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids"),
    kind: str = "int64",
    output: str = "last_hidden_state",
    rank: int = 3,
    positions: int | None = None,
) -> None:
    """Write model.onnx.

    Args:
        rank: 3: vectors of tokens; 2: one of the text, that of its second token; 1: none.
        positions: tokens that it can take; None: any number.
    """
    tables = [numpy_helper.from_array(table(dimensions), "table")]
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["tokens"])]
    if positions is not None:
        tables += [numpy_helper.from_array(np.zeros((1, positions, dimensions), dtype=np.float32), "places")]
        tables += [numpy_helper.from_array(np.array([at], dtype=np.int64), f"at{at}") for at in (0, 1, 2)]
        nodes += [
            helper.make_node("Shape", ["tokens"], ["shape"]),
            helper.make_node("Slice", ["shape", "at1", "at2", "at0"], ["length"]),
            helper.make_node("Slice", ["places", "at0", "length", "at1"], ["those"]),
            helper.make_node("Add", ["tokens", "those"], ["made3"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["tokens"], ["made3"]))
    tables += [numpy_helper.from_array(np.array(at, dtype=np.int64), f"the{at}") for at in (0, 1)]
    if rank < 3:
        nodes.append(helper.make_node("Gather", ["made3", "the1"], ["made2"], axis=1))
    if rank < 2:
        nodes.append(helper.make_node("Gather", ["made2", "the0"], ["made1"], axis=0))
    nodes.append(helper.make_node("Identity", [f"made{rank}"], [output]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TYPES[kind], ["batch", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "tokens", dimensions][3 - rank :])],
        tables,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(directory / "model.onnx"))
