"""Every metric of every process, in one place. Labels come from closed sets: never a user, a prompt or a raw model name.

Adapter ids appear in ``plaudit_adapter_info`` only.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import start_http_server

REGISTRY = CollectorRegistry()

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


def _seconds(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, buckets=_LATENCY, registry=REGISTRY)


# gateway
REQUESTS = Counter("plaudit_requests_total", "HTTP requests", ["route", "status"], registry=REGISTRY)
CHAT_SECONDS = _seconds("plaudit_chat_seconds", "Chat request, first byte to last", "arm")
FIRST_TOKEN_SECONDS = _seconds("plaudit_first_token_seconds", "Request to first token", "arm")
TOKENS = Counter("plaudit_tokens_total", "Tokens", ["arm", "direction"], registry=REGISTRY)
COMPLETIONS = Counter("plaudit_completions_total", "Answers", ["arm", "outcome"], registry=REGISTRY)
FEEDBACK = Counter("plaudit_feedback_total", "Feedback acknowledged", ["kind", "source"], registry=REGISTRY)
CAPTURE_QUEUE = Gauge("plaudit_capture_queue_events", "Completion events not yet durable", registry=REGISTRY)
CAPTURE_LOST = Counter("plaudit_capture_lost_total", "Completion events given up on", registry=REGISTRY)
ENGINE_READY = Gauge("plaudit_engine_ready", "1 when the engine answered its last probe", registry=REGISTRY)
ENGINE_RESTARTS = Counter("plaudit_engine_restarts_total", "Engine restarts seen by the gateway", registry=REGISTRY)
SWAPS = Counter("plaudit_swaps_total", "Adapters made live", ["outcome"], registry=REGISTRY)
SWAP_SECONDS = _seconds("plaudit_swap_seconds", "Publication to first token of a new adapter")
ADAPTER_INFO = Gauge("plaudit_adapter_info", "1 for every adapter in use", ["project", "role", "adapter"], registry=REGISTRY)

# log
LOG_LAG = Gauge("plaudit_log_lag_events", "Events not yet read by a group", ["group", "topic"], registry=REGISTRY)
FORWARD_LAG = Gauge("plaudit_forward_lag_events", "Events not yet acknowledged by Kafka", registry=REGISTRY)
FORWARD_REBUILDS = Gauge("plaudit_forward_rebuilds", "Kafka producers given up and rebuilt", registry=REGISTRY)

# trainer
JOINED = Gauge("plaudit_joined_votes", "Votes joined to their completions", registry=REGISTRY)
JOIN_RATE = Gauge("plaudit_join_rate", "Joined share of the feedback read", registry=REGISTRY)
REWARD_ACCURACY = Gauge("plaudit_reward_accuracy", "Held-out accuracy of the reward model", registry=REGISTRY)
REWARD_BASELINE = Gauge("plaudit_reward_majority_baseline", "Held-out accuracy of the majority", registry=REGISTRY)
PPO_KL = Gauge("plaudit_ppo_kl_nats", "KL to the reference, nats a sequence", registry=REGISTRY)
PPO_REWARD = Gauge("plaudit_ppo_reward", "Mean reward-model score of the last batch", registry=REGISTRY)
PPO_CLIP_FRACTION = Gauge("plaudit_ppo_clip_fraction", "Share of clipped tokens", registry=REGISTRY)
PPO_ENTROPY = Gauge("plaudit_ppo_entropy_nats", "Mean entropy per token", registry=REGISTRY)
PPO_VALUE_LOSS = Gauge("plaudit_ppo_value_loss", "Value loss", registry=REGISTRY)
CYCLES = Counter("plaudit_cycles_total", "Training cycles", ["outcome"], registry=REGISTRY)

# controller
ROLLOUT_STATE = Gauge("plaudit_rollout_state", "1 for the state the rollout is in", ["project", "state"], registry=REGISTRY)
EVIDENCE = Gauge("plaudit_rollout_log_evidence", "Natural logarithm of an e-value", ["project", "test"], registry=REGISTRY)


def render() -> bytes:
    """The registry in Prometheus' text format."""
    return generate_latest(REGISTRY)


def serve_metrics(port: int, host: str = "127.0.0.1") -> None:
    """Answer ``/metrics`` of this process on a port; 0 turns it off."""
    if port:
        start_http_server(port, addr=host, registry=REGISTRY)
