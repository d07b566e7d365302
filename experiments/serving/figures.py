"""What the service tells of itself at ``/metrics``: counts and times, and nothing of any user."""

from experiments.serving.store import HeadStore


class Figures:
    """Prometheus metrics of one service, in a registry of its own."""

    def __init__(self, store: HeadStore) -> None:
        """``store``: whose size is told."""
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "fedmeta_requests", "Requests by outcome: ok, or the code.", ["code"], registry=registry
        )
        self.seconds = Histogram(
            "fedmeta_request_seconds",
            "From the request to its answer.",
            buckets=(0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        )
        self.predictions = Counter(
            "fedmeta_predictions", "Texts or rows answered.", registry=registry
        )
        self.batch = Histogram(
            "fedmeta_batch_requests",
            "Requests that were computed together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        for name, text, value in (
            ("heads", "Heads in memory.", lambda: len(store)),
            ("heads_bytes", "Bytes of these heads.", lambda: store.bytes),
            ("head_loads", "Heads read from files.", lambda: store.loads),
            ("head_evictions", "Heads forgotten for want of room.", lambda: store.evictions),
        ):
            Gauge(f"fedmeta_{name}", text, registry=registry).set_function(value)

    def told(self, requests: int, inputs: int) -> None:
        """Count a batch."""
        self.batch.observe(requests)

    def text(self) -> bytes:
        """In Prometheus' format."""
        from prometheus_client import generate_latest

        found: bytes = generate_latest(self.registry)
        return found
