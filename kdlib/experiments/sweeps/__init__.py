"""Sweeps: the runs of many recipes, by an engine that exists.

Snakemake knows what waits for what, and has the queues: the cores and GPUs here, Slurm, Kubernetes. The runs
know how to be trained once: whoever is killed, goes on, and who comes second, waits. A single machine needs
none of this; `kd run` takes a pattern too.
"""

from kdlib.experiments.sweeps.engine import SNAKEFILE, run_sweep
from kdlib.experiments.sweeps.graph import Job, Sweep, run_graph

__all__ = ["SNAKEFILE", "Job", "Sweep", "run_graph", "run_sweep"]
