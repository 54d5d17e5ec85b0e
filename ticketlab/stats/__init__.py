"""How a verdict is reached: paired tests, planned looks, Holm families, and the words for the result."""

from ticketlab.stats.across import Across, across
from ticketlab.stats.answer import answer, foot
from ticketlab.stats.comparison import Comparison, Settings
from ticketlab.stats.grow import Grant, grow, next_look
from ticketlab.stats.judge import judge
from ticketlab.stats.plan import plan_looks, resolve_margin
from ticketlab.stats.population import population_interval
from ticketlab.stats.power import Feasible, feasible, half_widths, p_decide, seeds_needed
from ticketlab.stats.summaries import Summary, compare_summaries
from ticketlab.stats.verdict import BETTER_WITHOUT, DOES_NOT_USE, UNDECIDED, USES, VOID, Verdict
from ticketlab.stats.wording import sentence

__all__ = [
    "BETTER_WITHOUT",
    "DOES_NOT_USE",
    "UNDECIDED",
    "USES",
    "VOID",
    "Across",
    "Comparison",
    "Feasible",
    "Grant",
    "Settings",
    "Summary",
    "Verdict",
    "across",
    "answer",
    "compare_summaries",
    "feasible",
    "foot",
    "grow",
    "half_widths",
    "judge",
    "next_look",
    "p_decide",
    "plan_looks",
    "population_interval",
    "resolve_margin",
    "seeds_needed",
    "sentence",
]
