"""Say where the Snakefile is: `snakemake -s "$(python -m kdlib.sweeps)" …`."""

from kdlib.sweeps.engine import SNAKEFILE

print(SNAKEFILE)
