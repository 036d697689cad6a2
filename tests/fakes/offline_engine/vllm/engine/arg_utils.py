"""The arguments that the fake engine knows; others end it as argparse does."""

import argparse


class EngineArgs:
    @staticmethod
    def add_cli_args(parser):
        for option in ("--model", "--seed", "--dtype", "--max-model-len", "--tokenizer"):
            parser.add_argument(option)
        parser.add_argument("--enforce-eager", action="store_true")
        parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
        return parser

    @staticmethod
    def from_cli_args(arguments):
        return arguments
