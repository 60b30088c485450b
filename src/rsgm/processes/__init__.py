"""Forward noising processes and their reversals: every process is one file and one class."""

from rsgm.processes.base import Process, Reverse, Score, reverse
from rsgm.processes.brownian import Brownian
from rsgm.processes.langevin import Langevin
from rsgm.processes.product import ProductProcess

__all__ = ["Brownian", "Langevin", "Process", "ProductProcess", "Reverse", "Score", "reverse"]
