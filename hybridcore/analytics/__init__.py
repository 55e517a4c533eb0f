"""What a cache of another size would do, how much it will need, and traces of what it is asked."""

from hybridcore.analytics.curve import MissRatioCurve
from hybridcore.analytics.estimator import Estimator
from hybridcore.analytics.forecast import Forecast, forecast
from hybridcore.analytics.live import Analytics, Analyzer
from hybridcore.analytics.passes import Trace, trace_curve
from hybridcore.analytics.predictions import Predictions
from hybridcore.analytics.recommend import Option, Recommendation, recommend
from hybridcore.analytics.recording import Recorder, Recording, read_recording
from hybridcore.analytics.store import StoreAnalytics

__all__ = [
    "Analytics",
    "Analyzer",
    "Estimator",
    "Forecast",
    "MissRatioCurve",
    "Option",
    "Predictions",
    "Recommendation",
    "Recorder",
    "Recording",
    "StoreAnalytics",
    "Trace",
    "forecast",
    "read_recording",
    "recommend",
    "trace_curve",
]
