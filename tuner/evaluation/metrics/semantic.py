"""Semantic similarity: how near reply and reference lie to each other for an embedding model."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tuner.errors import UserError
from tuner.evaluation.metric import Metric, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuner.evaluation.predictions import Prediction

VARIABLE = "TUNER_EMBEDDER"
_BATCH = 32
_TOKENS = 512
_CHARACTERS = 16 * _TOKENS  # more would be cut off anyway, after a long time in the tokenizer


class Semantic(Metric):
    """Cosine of the embeddings of reply and reference, -1 to 1; a set's value is the mean.

    It sees that two wordings mean the same, where overlap sees two texts; it does not see a wrong
    number or a missing "not". The embedding is the mean over the tokens of a model's last hidden
    states, in float32 on the CPU, of at most 512 tokens. The environment variable TUNER_EMBEDDER
    names the model, a folder or a hub id that transformers loads, such as
    sentence-transformers/all-MiniLM-L6-v2; where it is not set, the metric does not apply. A blank
    reply is 0, a row with a blank reference has no value. Values of different models cannot be
    compared.
    """

    keys: ClassVar[tuple[str, ...]] = ("semantic",)
    paper: ClassVar[str] = "https://arxiv.org/abs/1908.10084"

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def applies(self, rows: Sequence[Prediction]) -> bool:
        """Whether a model is named."""
        del rows
        return bool(os.environ.get(VARIABLE))

    def signatures(self) -> dict[str, str]:
        """Returns the model, the hash of its weights, and how texts are embedded."""
        from tuner.weights import weights_hash

        name = os.environ.get(VARIABLE, "")
        weights = (weights_hash(name) or "unknown")[:12] if name else "none"
        text = f"version:{version('transformers')}|model:{name or 'not set'}|weights:{weights}"
        return {
            "semantic": f"transformers cosine|{text}|pooling:mean|tokens:{_TOKENS}|aggregate:mean"
        }

    def score(self, rows: Sequence[Prediction]) -> dict[str, Scores]:
        """Scores n replies; statistics are (n, 2): the value and 1.

        Raises:
            UserError: no model is named, or it cannot be loaded.
        """
        tokenizer, model = self._load()
        texts = sorted({text for row in rows for text in (row.prediction, row.reference)}, key=len)
        place = {text: index for index, text in enumerate(texts)}
        found = np.concatenate(
            [
                _embed(tokenizer, model, texts[start : start + _BATCH])
                for start in range(0, len(texts), _BATCH)
            ]
        )
        cosines = [
            float(found[place[row.prediction]] @ found[place[row.reference]])
            if row.reference.strip()
            else float("nan")
            for row in rows
        ]
        return {"semantic": Scores.mean(cosines)}

    def _load(self) -> tuple[Any, Any]:
        name = os.environ.get(VARIABLE)
        if not name:
            raise UserError(
                f"The metric 'semantic' needs an embedding model: set {VARIABLE} to a folder or a "
                f"hub id, as in {VARIABLE}=sentence-transformers/all-MiniLM-L6-v2, or leave the "
                "metric out."
            )
        if name not in self._loaded:
            from transformers import AutoModel, AutoTokenizer

            from tuner.backbone import NO_CODE

            try:
                tokenizer = AutoTokenizer.from_pretrained(name, padding_side="right", **NO_CODE)
                # Its configuration could ask for attention by code of the hub.
                options = {"attn_implementation": "eager", "use_safetensors": True, **NO_CODE}
                model = AutoModel.from_pretrained(name, dtype="float32", **options).eval()
            except Exception as error:  # the clients and the models raise their own
                first = (str(error).strip().splitlines() or [""])[0]
                raise UserError(
                    f"{VARIABLE}: cannot load the embedding model '{name}' ({first}). Check the "
                    "name and the connection, or give a local folder."
                ) from error
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
            self._loaded[name] = (tokenizer, model)
        return self._loaded[name]


def _embed(tokenizer: Any, model: Any, texts: list[str]) -> NDArray[np.float64]:
    """Returns (n, d) float64 embeddings of length 1; zeros for a blank text."""
    import torch

    # a lone surrogate is no text to a tokenizer
    sound = [text[:_CHARACTERS].encode("utf-8", "replace").decode() for text in texts]
    batch = tokenizer(
        [text if text.strip() else "." for text in sound],
        padding=True,
        truncation=True,
        max_length=min(_TOKENS, getattr(model.config, "max_position_embeddings", _TOKENS)),
        return_tensors="pt",
    )
    with torch.inference_mode():
        states = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = ((states * mask).sum(dim=1) / mask.sum(dim=1)).double().numpy()
    filled = np.array([bool(text.strip()) for text in sound])[:, None]
    length = np.linalg.norm(pooled, axis=-1, keepdims=True)
    return np.where(filled & (length > 0), pooled / np.maximum(length, 1e-12), 0.0)
