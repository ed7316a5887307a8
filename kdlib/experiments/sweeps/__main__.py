"""Say where the Snakefile is: `snakemake -s "$(python -m kdlib.experiments.sweeps)" …`."""

from kdlib.experiments.sweeps.engine import SNAKEFILE

print(SNAKEFILE)
