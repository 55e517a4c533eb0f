"""Warming: what readers are about to ask for is loaded before they do, if that pays.

warmer      weighs wishes and fulfils those that pay
strategy    what a strategy is
preemptive  entries still asked for, before they expire
predictive  what a model guesses; ``models`` has some
sequences   the model of runs of numbered keys
scheduled   at times of the day, or when little is asked for
startup     after a start, from disk, a hot set, a peer or a trace
hot_set     the keys that are saved for it
manual      what it is told
budget      what it may cost
ledger      what became of it
prices      what loads take and cost
trial       how often guesses came true
shelf       what it may know of the tiers
"""

from __future__ import annotations

from hybridcore.warming.budget import Budget
from hybridcore.warming.hot_set import read_hot_set, save_hot_set
from hybridcore.warming.manual import Report
from hybridcore.warming.models import Associations, Periodicity, Popularity
from hybridcore.warming.predictive import Guess, Model, Predictive, PromptModel, predictive
from hybridcore.warming.preemptive import Preemptive
from hybridcore.warming.scheduled import Scheduled
from hybridcore.warming.sequences import Sequences
from hybridcore.warming.startup import Startup
from hybridcore.warming.strategy import Heard, WarmingStrategy, Wish
from hybridcore.warming.warmer import Warmer

__all__ = [
    "Associations",
    "Budget",
    "Guess",
    "Heard",
    "Model",
    "Periodicity",
    "Popularity",
    "Predictive",
    "Preemptive",
    "PromptModel",
    "Report",
    "Scheduled",
    "Sequences",
    "Startup",
    "Warmer",
    "WarmingStrategy",
    "Wish",
    "predictive",
    "read_hot_set",
    "save_hot_set",
]
