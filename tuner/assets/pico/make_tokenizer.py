"""Make pico's tokenizer and configuration: the first half of its recipe.

    python -m tuner.assets.pico.make_tokenizer [--dolly FILE] [--medquad FILE]

A byte-level BPE of 4,096 pieces over Dolly and MedQuAD (from the hub, or from local copies), with
digits apart, so that any text can be written and numbers are spelt. The chat template is
TinyLlama's; as there, the role marks are ordinary text. `configs/recipes/pico.yaml` is the second
half: it trains the weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from tuner.data.sources.dolly import Dolly
from tuner.data.sources.medquad import MedQuAD
from tuner.weights import PICO

PIECES = 4096
CONTEXT = 1024  # tokens
SPECIAL = ["<pad>", "<s>", "</s>"]  # ids 0, 1, 2
TEMPLATE = """{% for message in messages %}
{% if message['role'] in ['system', 'user', 'assistant'] %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}"""


def texts(dolly: str | None, medquad: str | None) -> Iterator[str]:
    """Every turn of both sets, each behind its role mark."""
    for source in (Dolly(dolly), MedQuAD(medquad)):
        for example in source.rows().examples:
            for message in example.messages:
                yield f"<|{message.role}|>\n{message.content}"


def main() -> None:
    """Write tokenizer and configuration beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dolly")
    parser.add_argument("--medquad")
    args = parser.parse_args()

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts(args.dolly, args.medquad), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(str(PICO))
    LlamaConfig(
        vocab_size=PIECES,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    ).save_pretrained(str(PICO))


if __name__ == "__main__":
    main()
