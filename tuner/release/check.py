"""Whether an export says what the run says: logits and greedy replies."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tuner.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import GenerationConfig

TOKENS = 24  # of a reply
MOST_DIFFERENCE = 1.0  # of a logit
LEAST_AGREEMENT = 0.9  # share of the tokens


@dataclass(frozen=True)
class Said:
    """Greedy replies of a model, and what it thought of every token in their places.

    Attributes:
        prompts: token ids of each prompt.
        replies: token ids of each reply; at least one.
        logits: (R, V) float32 for each reply of R tokens.
    """

    prompts: list[list[int]]
    replies: list[list[int]]
    logits: list[Tensor]


@dataclass(frozen=True)
class Check:
    """How far an export is from the run.

    Attributes:
        source: what the prompts were.
        prompts: their number.
        tokens: tokens of the run's greedy replies to them.
        agreeing: tokens that the export finds likeliest as well, after the same text. All of them:
            its greedy replies are the same.
        difference: the largest difference between two logits.
    """

    source: str
    prompts: int
    tokens: int
    agreeing: int
    difference: float

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"logits differ by up to {self.difference:.2g}, {self.agreeing} of {self.tokens} "
            f"greedy tokens are the same ({self.prompts} {self.source})"
        )

    def refuse(self, advice: str) -> None:
        """Refuse an export that is another model.

        Args:
            advice: how to go on.

        Raises:
            UserError: it differs by more than rounding does.
        """
        close = self.difference <= MOST_DIFFERENCE  # NaN is not
        if not close or self.agreeing < LEAST_AGREEMENT * self.tokens:
            raise UserError(
                f"the export is not the model of the run: {self}. Allowed: up to "
                f"{MOST_DIFFERENCE:.2g}, and {LEAST_AGREEMENT:.0%} of the tokens. {advice}"
            )


@torch.inference_mode()
def listen(model: Any, prompts: Sequence[Sequence[int]], settings: GenerationConfig) -> Said:
    """Let a model answer each prompt alone, the beginning of a reply.

    Args:
        model: in evaluation mode, on its device.
        prompts: token ids, up to where the reply starts.
        settings: greedy, with the tokens that end a turn.
    """
    device = next(model.parameters()).device
    short = copy(settings)
    short.max_new_tokens = TOKENS
    replies: list[list[int]] = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=device)
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=short
        )
        replies.append(out[0, len(prompt) :].tolist())
    taken = [list(prompt) for prompt in prompts]
    return Said(taken, replies, [_logits(model, *one) for one in zip(taken, replies, strict=True)])


@torch.inference_mode()
def compare(model: Any, said: Said, source: str) -> Check:
    """Compare another model with what one has said.

    Args:
        model: in evaluation mode, on its device.
        said: what the first model said.
        source: what the prompts were.
    """
    agreeing, difference = 0, torch.zeros(())
    for prompt, reply, expected in zip(said.prompts, said.replies, said.logits, strict=True):
        found = _logits(model, prompt, reply)
        agreeing += int((found.argmax(-1) == expected.argmax(-1)).sum())
        difference = torch.maximum(difference, (found - expected).abs().max())
    tokens = sum(map(len, said.replies))
    return Check(source, len(said.prompts), tokens, agreeing, float(difference))


def _logits(model: Any, prompt: list[int], reply: list[int]) -> Tensor:
    """(R, V) float32 on the CPU: what decides about each token of the reply."""
    ids = torch.tensor([[*prompt, *reply]], device=next(model.parameters()).device)
    # Of heads with virtual tokens the logits begin with those.
    return model(input_ids=ids).logits[0, -len(reply) - 1 : -1].float().cpu()
