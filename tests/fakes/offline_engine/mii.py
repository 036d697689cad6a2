"""A DeepSpeed-MII that answers at once, one token too few if the environment says so."""

import os


class Answer:
    def __init__(self, text, length):
        self.prompt_length = len(text.split())
        self.generated_length = length


class Pipeline:
    def __call__(self, texts, max_new_tokens, min_new_tokens, ignore_eos):
        assert ignore_eos
        assert min_new_tokens == max_new_tokens
        return [Answer(text, max_new_tokens - int(os.environ.get("FAKE_SHORT", "0"))) for text in texts]


def pipeline(model):
    return Pipeline()
