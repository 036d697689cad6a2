"""What the machine has: GPUs through NVML, and the host's memory, cores and disks through /proc."""
