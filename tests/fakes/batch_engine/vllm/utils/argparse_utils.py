"""vLLM's parser reads as argparse's does, as far as these tests go."""

from argparse import ArgumentParser as FlexibleArgumentParser

__all__ = ["FlexibleArgumentParser"]
