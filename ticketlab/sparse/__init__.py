"""Native kernels for sparse networks on CPUs."""

from ticketlab.sparse.kept import KeptWeights as KeptWeights
from ticketlab.sparse.library import LEVELS as LEVELS
from ticketlab.sparse.library import missing as missing
from ticketlab.sparse.net import Choice as Choice
from ticketlab.sparse.net import Net as Net
from ticketlab.sparse.net import Norm as Norm
