"""Exporters: the statistics of caches for Prometheus, DogStatsD, OpenTelemetry, and what you write.

Each is a module to be imported by name, and needs its library only then.

    metrics     names and units: what a snapshot is called outside
    sources     the caches that are told of; a forked child tells of itself alone
    processes   a directory in which several processes add up
    prometheus  to be scraped
    push        to be told every few seconds: sinks of any kind
    datadog     a sink that speaks DogStatsD
    otel        instruments of OpenTelemetry
"""
