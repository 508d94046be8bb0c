"""Metrics, in Prometheus' form: Flux's own by their names (Flux contract 6.4), and ours."""

from collections.abc import Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tidelog.engine.runtime.context import Engine, OnPass
from tidelog.engine.runtime.memory import Listener
from tidelog.engine.runtime.schedule import Scheduler
from tidelog.engine.sources.clouds.logins import CloudLogins
from tidelog.events.names import ObjectKey, StreamName, cluster_of
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import SourceRemoved, TargetRemoved
from tidelog.storage import Recorded

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Ten exponential buckets from 10 ms to 1800 s, as Flux has them (ME-001).
_BUCKETS = tuple(0.01 * (1800 / 0.01) ** (n / 9) for n in range(10))


_CONTROLLERS = {
    "sources": {"gitrepository": ""},
    "targets": {"kustomization": "Kustomization", "helmrelease": "HelmRelease"},
}
"""By whose name what a scheduler does is told, and the kind that counts; empty for all. Kinds share its places."""


def _queued(scheduler: Scheduler, kind: str) -> float:
    return scheduler.queued_of(kind) if kind else scheduler.queued


def _running(scheduler: Scheduler) -> float:
    return scheduler.running


_HIT, _MISS, _RECONCILE = "cache_hit", "cache_miss", "reconcile"


class _TokenCache:
    """What the logins at clouds count themselves."""

    def __init__(self, clouds: CloudLogins) -> None:
        self._clouds = clouds

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The families, as they now are."""
        asked = CounterMetricFamily(
            "gotk_token_cache_requests", "How often a cloud's token was needed, by what came of it.", labels=["status"]
        )
        asked.add_metric(["success"], self._clouds.given)
        asked.add_metric(["failure"], self._clouds.denied)
        yield asked
        yield CounterMetricFamily(
            "gotk_token_cache_evictions", "Tokens that had to go for others.", value=self._clouds.evicted
        )


class Metrics:
    """What is counted. One for a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process = CollectorRegistry()
        """Of the process itself: what is read from files, and so not by the event loop."""
        ProcessCollector(registry=self.process)
        labels = ("kind", "name", "namespace")
        self._duration = Histogram(
            "gotk_reconcile_duration_seconds",
            "How long a pass over a source or target took.",
            labels,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # Those that dashboards for Flux use (ME-007).
        self._reconciles = Counter(
            "controller_runtime_reconcile", "Passes.", ("controller", "result"), registry=self.registry
        )
        self._concurrent = Gauge(
            "controller_runtime_max_concurrent_reconciles", "Passes at once.", ("controller",), registry=self.registry
        )
        self._depth = Gauge("workqueue_depth", "What waits for its turn.", ("name",), registry=self.registry)
        self._requests = Counter(
            "tidelog_cluster_requests", "Requests to the API server.", ("verb", "kind", "code"), registry=self.registry
        )
        self._request_seconds = Counter(
            "tidelog_cluster_request_seconds", "Seconds that requests took.", ("verb",), registry=self.registry
        )
        self._events = Counter("tidelog_events", "Events recorded.", ("type",), registry=self.registry)
        self._head = Gauge("tidelog_log_position", "The position of the log's last event.", registry=self.registry)
        # Of clouds' tokens (ME-003, ME-004); a source is the only one that needs any so far.
        self._tokens = Counter(
            "gotk_token_cache_events",
            "How often a kept token of a cloud's was there when it was needed.",
            ("event_type", *labels, "operation"),
            registry=self.registry,
        )
        self._ready = Gauge(
            "tidelog_ready", "1 when ready, 0 when not.", ("kind", "namespace", "name"), registry=self.registry
        )

    def bind(self, engine: Engine) -> None:
        """Counts what an engine does."""
        engine.memory.listen(self._heard(engine))
        engine.on_pass = self._passed(engine)
        engine.on_login = self.on_login
        clouds = engine.fetchers.clouds
        kept = Gauge("gotk_token_cached_items", "Tokens of clouds that are kept.", registry=self.registry)
        kept.set_function(lambda: clouds.size)
        self.registry.register(_TokenCache(clouds))
        for name, scheduler in (("sources", engine.sources), ("targets", engine.targets)):
            for controller, kind in _CONTROLLERS[name].items():
                self._depth.labels(controller).set_function(partial(_queued, scheduler, kind))
                self._concurrent.labels(controller).set(scheduler.concurrency)
            running = Gauge(f"tidelog_{name}_running", f"{name} that run.", registry=self.registry)
            running.set_function(partial(_running, scheduler))
        self._head.set(engine.memory.position)
        # What nothing happens to after a start has to be told of too.
        for stream, standing in engine.memory.conditions.items():
            if cluster_of(StreamName(stream)) == engine.cluster_alias:
                self._stands(StreamName(stream), standing)

    def on_request(self, verb: str, kind: str, code: int, seconds: float) -> None:
        """A request to the API server is over."""
        self._requests.labels(verb, kind, str(code)).inc()
        self._request_seconds.labels(verb).inc(seconds)

    def on_login(self, stream: StreamName, was_kept: bool) -> None:  # noqa: FBT001 - a listener's
        """A source needed a cloud's token."""
        key = ObjectKey.of_stream(stream)
        event = _HIT if was_kept else _MISS
        self._tokens.labels(event, key.kind, key.name, key.namespace, _RECONCILE).inc()

    def on_pass(self, stream: StreamName, seconds: float, result: str) -> None:
        """A pass is over."""
        key = ObjectKey.of_stream(stream)
        self._duration.labels(key.kind, key.name, key.namespace).observe(seconds)
        self._reconciles.labels(key.kind.lower(), result).inc()

    def _passed(self, engine: Engine) -> OnPass:
        def passed(stream: StreamName, seconds: float, result: str) -> None:
            self.on_pass(stream, seconds, result)
            if engine.memory.conditions.get(stream) is None:
                self.forget(stream)  # that was its last

        return passed

    def forget(self, stream: StreamName) -> None:
        """Lets go of a source or target that is no more (CM-058)."""
        key = ObjectKey.of_stream(stream)
        for metric, labels in (
            (self._duration, (key.kind, key.name, key.namespace)),
            (self._ready, (key.kind, key.namespace, key.name)),
            (self._tokens, (_HIT, key.kind, key.name, key.namespace, _RECONCILE)),
            (self._tokens, (_MISS, key.kind, key.name, key.namespace, _RECONCILE)),
        ):
            try:
                metric.remove(*labels)
            except KeyError:
                continue

    def text(self) -> bytes:
        """What is counted."""
        return generate_latest(self.registry)

    def process_text(self) -> bytes:
        """What the system says of the process. Blocks."""
        return generate_latest(self.process)

    def _stands(self, stream: StreamName, standing: Standing) -> None:
        key = ObjectKey.of_stream(stream)
        self._ready.labels(key.kind, key.namespace, key.name).set(standing.ready == "True")

    def _heard(self, engine: Engine) -> Listener:
        def heard(recorded: Recorded) -> None:
            envelope = recorded.envelope
            self._events.labels(envelope.type).inc()
            self._head.set(envelope.position)
            standing = engine.memory.conditions.get(envelope.stream)
            if standing is not None:
                self._stands(envelope.stream, standing)
            elif isinstance(recorded.event, SourceRemoved | TargetRemoved):
                self.forget(envelope.stream)

        return heard
