"""A tokenizer of 100 words, two of them special, and a model that answers with as many tokens as it is told to.

FAKE_SAW: a file to which each call's prompts are added, one JSON list a line. FAKE_OOM: run out of memory.
"""

import json
import os

import torch

__version__ = "5.0-fake"


class Encoded:
    def __init__(self, ids):
        self.input_ids = ids


class AutoTokenizer:
    all_special_ids = (0,)
    added_tokens_decoder = frozenset({99})
    pad_token_id, eos_token_id = None, 99

    @classmethod
    def from_pretrained(cls, name, trust_remote_code=False):
        return cls()

    def get_vocab(self):
        return {f"w{number}": number for number in range(100)}

    def __len__(self):
        return 100

    def __call__(self, text, add_special_tokens=True):
        return Encoded([1 + sum(word.encode()) % 90 for word in text.split()])

    def decode(self, ids):
        return " ".join(f"w{number}" for number in ids)

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return " ".join(message["content"] for message in messages) + " go"

    def batch_decode(self, outputs, skip_special_tokens):
        return ["" for _row in outputs.rows]


class GenerationConfig:
    def __init__(self, **options):
        self.__dict__.update(options)


class Config:
    _attn_implementation = "fake"


class Model:
    dtype = torch.float16
    config = Config()
    generation_config = GenerationConfig(top_k=20, repetition_penalty=1.05)

    def to(self, device):
        return self

    def eval(self):
        return self

    def register_forward_pre_hook(self, hook):
        self.hook = hook

    def generate(self, input_ids, attention_mask, generation_config):
        if os.environ.get("FAKE_OOM"):
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB of which"
                " 1.10 GiB is free."
            )
        asked = self.generation_config
        assert asked is generation_config
        assert (asked.eos_token_id, asked.top_k, asked.do_sample) == (None, 0, True)
        assert asked.min_new_tokens == asked.max_new_tokens
        pairs = zip(input_ids.rows, attention_mask.rows, strict=True)
        saw([[number for number, seen in zip(*pair, strict=True) if seen] for pair in pairs])
        self.hook(self)
        return torch.Tensor([row + [1] * asked.max_new_tokens for row in input_ids.rows])


class AutoModelForCausalLM:
    @staticmethod
    def from_pretrained(name, dtype=None, trust_remote_code=False):
        return Model()


def saw(prompts):
    if os.environ.get("FAKE_SAW"):
        with open(os.environ["FAKE_SAW"], "a") as file:
            file.write(json.dumps(prompts) + "\n")


def set_seed(seed):
    pass
