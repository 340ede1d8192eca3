"""Approximation under one budget: places, alternatives, predicted errors, measured costs, choice, proof.

`search.py` is the main line; `task.py` holds what it is asked and what it finds. A *place* is where a weight is read
(`places.py`), also in the branches that calibration takes (`taken_branches.py`). A *method* offers *forms* of a place
(`method.py`; the methods themselves live in `rewrites/quantization`, `rewrites/low_rank`). Each form has a cost,
measured on the target at the caller's shapes (`costs.py`), and a predicted contribution to the loss (`responses.py`):
the places of one program with their forms are its `tables.py`. `knapsack.py` picks one form for every place.

A *structure* (`structure.py`; `rewrites/slicing`, `rewrites/pruning`) makes the whole program narrower. Its variants
are measured (`variants.py`), and those that promise to be cheaper get tables of their own: the choice is made over
all of them. A *repair* (`repair.py`; `rewrites/retraining`), where one is asked for, moves what constants hold after
the choice, so that a cheaper one fits (`repaired.py`). `proof.py` puts what fits to proof, cheapest first;
`acceptance.py` says whether it is within the owner's budget (`budget.py`), measured on samples that chose nothing.

An approximation is never an equal term of the e-graph: equality is transitive, error is not free. It is a form of a
place in the program that exact rewriting left, and only the choice steps across it, paying the error.
"""
