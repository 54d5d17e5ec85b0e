"""The sanity checks: each an edit of a program, with its own control of what it changed and what it left alone."""

from ticketlab.checks.check import Check as Check
from ticketlab.checks.check import Control as Control
from ticketlab.checks.check import Evidence as Evidence
from ticketlab.checks.registry import CHECKS as CHECKS
from ticketlab.checks.registry import DEFAULT as DEFAULT
from ticketlab.checks.registry import resolve as resolve
