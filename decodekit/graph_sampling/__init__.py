"""
Sampling in a graph: the part of a chain that can be traced runs where the logits are.

    chain -> [ trace -> graph ] -> candidates -> the rest of the chain, the draw, the criteria

The graph compacts, the host draws: of V logits a row only those that are left cross, and
everything that decides a token is the same code as without a graph.
"""
