"""Where the parser is."""
