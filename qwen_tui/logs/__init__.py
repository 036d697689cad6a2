"""Log files that grow while they are read; never the whole file in memory."""
