"""NSARM: bitwise next-scale prediction on an Infinity pyramid (Kong et al., arXiv 2510.00820)."""
