"""Dashboards for Grafana and Datadog: what they show is told once, for both.

expressions  what is drawn, as queries of Prometheus and of Datadog
panels       how it is drawn and arranged
grafana      as JSON that Grafana imports
datadog      as JSON that Datadog imports, with monitors of the alert rules

The other modules are the dashboards.
"""

from hybridcore.monitoring.dashboards.capacity import CAPACITY
from hybridcore.monitoring.dashboards.invalidation import INVALIDATION
from hybridcore.monitoring.dashboards.objectives import OBJECTIVES
from hybridcore.monitoring.dashboards.overview import OVERVIEW
from hybridcore.monitoring.dashboards.tiers import TIERS
from hybridcore.monitoring.dashboards.warming import WARMING
from hybridcore.monitoring.dashboards.write_queue import WRITE_QUEUE

DASHBOARDS = (OVERVIEW, TIERS, WRITE_QUEUE, WARMING, INVALIDATION, OBJECTIVES, CAPACITY)
"""All there are."""
