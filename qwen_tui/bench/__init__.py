"""Benchmarks: workloads, the load that is put on a server, what its answers amount to, and the runs that were kept."""
