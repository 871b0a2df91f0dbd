"""VARSR (Qu et al., ICML 2025, arXiv 2501.18993): visual autoregressive super-resolution."""
