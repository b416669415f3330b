"""The embedder `onnx`: a model of sentences on disk, read by onnxruntime. Offline; meaning, not just words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.embeddings.base import MOST_DIMENSIONS, Unembeddable, unit
from app.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.embeddings.base import Vectors

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
#: As `sha256sum model.onnx` prints it. Where it is there, the model must match.
CHECKSUM = "model.onnx.sha256"

#: Of a longer text the beginning counts.
_MOST_TOKENS = 256
_BATCH = 32
#: More threads than this bring little, and the processes of a stack share the machine.
_MOST_THREADS = 2
_REQUIRED = {"input_ids", "attention_mask"}
_OPTIONAL = {"token_type_ids"}
#: Read if they are there, in this order; else the first that has the shape of one.
_OUTPUTS = ("sentence_embedding", "last_hidden_state", "token_embeddings")
_TYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32"}


class Onnx:
    """Vectors of a model that was trained to tell what sentences mean, such as all-MiniLM-L6-v2.

    Args:
        directory: holds model.onnx and tokenizer.json, and optionally model.onnx.sha256.

    Raises:
        SettingsError: a file is missing or does not match, or the model is of another kind.
    """

    at_hand = 8

    def __init__(self, directory: Path) -> None:
        model, tokenizer = _files(directory)
        digest = _checked(model, directory / CHECKSUM)
        self._tokenizer = _tokenizer(tokenizer)
        self._session = _session(model)
        self._inputs = _inputs(self._session, model)
        self._output = _output(self._session, model)
        self.dimensions = self._probe(model)
        # Not the directory's name: the same model elsewhere makes the same vectors.
        self.name = f"onnx:{digest[:12]}:{_sha256(tokenizer)[:8]}:{self.dimensions}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text; one without tokens is not asked about.

        Raises:
            Unembeddable: the model fails on one of the texts.
        """
        import numpy as np

        # One by one: the tokenizer's own threads, as many as there are cores, would be in the way of others.
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        # Texts of a length share a batch: what is filled up costs as much as what is said.
        order = sorted((place for place in range(len(texts)) if tokens[place]), key=lambda place: len(tokens[place]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            rows[places] = self._run([tokens[place] for place in places])
        return unit(rows)

    def _run(self, batch: list[list[int]]) -> Vectors:
        """The model's vectors of texts that are given as tokens; those of tokens are averaged."""
        import numpy as np

        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {name: given[name].astype(kind) for name, kind in self._inputs.items()}
        try:
            made = self._session.run([self._output], feed)[0]
        except Exception as exc:  # onnxruntime's errors have no class in common
            raise Unembeddable(f"The model fails: {type(exc).__name__}.") from exc
        return _pooled(np.asarray(made, dtype=np.float32), mask)

    def _probe(self, model: Path) -> int:
        """How many numbers the model makes, of a short text and of the longest."""
        try:
            made = [self._run([self._tokenizer.encode(text).ids]) for text in ("clawq", "clawq " * _MOST_TOKENS)]
        except Unembeddable as exc:
            raise SettingsError(f"{model} cannot embed {_MOST_TOKENS} tokens of its {TOKENIZER}: {exc.detail}") from exc
        dimensions = int(made[0].shape[1])
        if dimensions > MOST_DIMENSIONS:
            raise SettingsError(
                f"{model} makes {dimensions} numbers of a text; memories hold {MOST_DIMENSIONS} at most."
            )
        return dimensions


def _pooled(made: Vectors, mask: NDArray[np.int64]) -> Vectors:
    """Vectors of texts, of those of their tokens or as they are."""
    import numpy as np

    if made.ndim == 3:
        weights = mask[:, :, None].astype(np.float32)
        made = (made * weights).sum(axis=1) / weights.sum(axis=1)
    if made.ndim != 2 or len(made) != len(mask) or not np.isfinite(made).all():
        raise Unembeddable(f"The model makes no vector of numbers, but an array of shape {made.shape}.")
    return made


def _files(directory: Path) -> tuple[Path, Path]:
    for path in (directory / MODEL, directory / TOKENIZER):
        if not path.is_file():
            raise SettingsError(
                f"{path} is missing: CLAWQ_EMBEDDING_MODEL_DIR names the directory that holds {MODEL} and {TOKENIZER}. "
                "docs/memory.md says how to make one."
            )
    return directory / MODEL, directory / TOKENIZER


def _checked(model: Path, checksum: Path) -> str:
    """The model's SHA-256."""
    digest = _sha256(model)
    if checksum.exists():
        expected = _text(checksum).split()[:1]
        if expected != [digest]:
            raise SettingsError(f"{model} is not what {checksum.name} beside it names: its SHA-256 is {digest}.")
    return digest


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return str(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}.") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").lower()
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}.") from None


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.enable_truncation(max_length=_MOST_TOKENS)
    except Exception as exc:  # noqa: BLE001 - tokenizers raises nothing more special
        raise SettingsError(f"{path} is no tokenizer: {exc}") from None
    # Each batch is filled up to its own longest text.
    tokenizer.no_padding()
    return tokenizer


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(os.cpu_count() or 1, _MOST_THREADS)
    options.inter_op_num_threads = 1
    # Idle threads would burn a core for a while after each text.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What fails is raised, and need not be on standard error too.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # noqa: BLE001 - onnxruntime's errors have no class in common
        raise SettingsError(f"{path} is no model that onnxruntime reads: {type(exc).__name__}.") from None


def _inputs(session: Any, path: Path) -> dict[str, str]:
    """The names of the model's inputs, with their types as numpy names them."""
    inputs: dict[str, str] = {given.name: given.type for given in session.get_inputs()}
    if not _REQUIRED <= inputs.keys() <= _REQUIRED | _OPTIONAL or not set(inputs.values()) <= _TYPES.keys():
        raise SettingsError(
            f"{path} is no model of sentences: it takes {_listed(inputs)}, not input_ids and attention_mask "
            "(and token_type_ids) as integers."
        )
    return {name: _TYPES[kind] for name, kind in inputs.items()}


def _output(session: Any, path: Path) -> str:
    """The name of the output that is read."""
    outputs: dict[str, Any] = {made.name: made.shape for made in session.get_outputs()}
    fitting = [name for name, shape in outputs.items() if len(shape) in (2, 3)]
    for name in (*_OUTPUTS, *fitting):
        if name in fitting:
            return name
    raise SettingsError(f"{path} is no model of sentences: it makes {_listed(outputs)}, none of them vectors.")


def _listed(named: dict[str, Any]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in named.items()) or "nothing"
