"""torchrun's launcher, for one machine: a command in several processes, with one exit code and no report."""

import logging
import os
import sys
from collections.abc import Sequence
from multiprocessing import cpu_count
from uuid import uuid4


def launch(module: str, arguments: Sequence[str], number: int) -> int:
    """Run ``python -m module arguments`` in so many processes that train together, and wait for them.

    The first that fails ends the others. Ctrl-C is passed on to all.

    Returns:
        The exit code of the first that failed; 0 where none did, and 130 after Ctrl-C.

    Raises:
        RuntimeError: a process did not come to its own end.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // number)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    # What a failed process has to say it says itself.
    logging.disable(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            raise RuntimeError(
                f"process {rank} of {number} was ended by {failure.signal_name()}, and the others with it; "
                "the same command goes on from the last checkpoint."
            ) from failed
        return int(failure.exitcode)
    finally:
        logging.disable(logging.NOTSET)
    return 0
