"""One ticket trained by several processes (DistributedDataParallel): one mask on all ranks, found from sharded data.

Every function here is called by all ranks of the default process group. Without one, or with one rank, each is what it
is in a single process. Nothing is pickled.
"""

from ticketlab.distributed.pruning import prune as prune
from ticketlab.distributed.same import same_mask as same_mask
from ticketlab.distributed.same import same_weights as same_weights
from ticketlab.distributed.shards import gathered as gathered

__all__ = ["gathered", "prune", "same_mask", "same_weights"]
