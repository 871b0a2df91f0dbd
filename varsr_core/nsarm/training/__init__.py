"""How NSARM is trained: its map network, then the whole model.

The authors' trainer is not released. What is known of it comes from their figure and the helpers
that are left in their code: two stages, what each compares, and that scales are corrected as in
Infinity. All else is Infinity's, whose trainer is public (Han et al., "Infinity: Scaling Bitwise
AutoRegressive Modeling for High-Resolution Image Synthesis", 2024, arXiv 2412.04431), or a guess;
each module says which.
"""
