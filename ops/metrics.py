"""Every metric of every process, in one place. Labels come from closed sets: never a user, a prompt or a raw model name.

Adapter ids appear in ``plaudit_adapter_info`` only.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import start_http_server

from ops.ports import check_port

GATEWAY, ADMIN, LOG, TRAINER, CONTROLLER = (CollectorRegistry(auto_describe=False) for _ in range(5))
"""One for each kind of process, and one for what they share: a process tells only of what it knows."""

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


def _seconds(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, buckets=_LATENCY, registry=GATEWAY)


# gateway
REQUESTS = Counter("plaudit_requests_total", "HTTP requests", ["route", "status"], registry=GATEWAY)
CHAT_SECONDS = _seconds("plaudit_chat_seconds", "Chat request, first byte to last", "arm")
FIRST_TOKEN_SECONDS = _seconds("plaudit_first_token_seconds", "Request to first token", "arm")
TOKENS = Counter("plaudit_tokens_total", "Tokens", ["arm", "direction"], registry=GATEWAY)
COMPLETIONS = Counter("plaudit_completions_total", "Answers", ["arm", "outcome"], registry=GATEWAY)
FEEDBACK = Counter("plaudit_feedback_total", "Feedback acknowledged", ["kind", "source"], registry=GATEWAY)
CAPTURE_QUEUE = Gauge("plaudit_capture_queue_events", "Completion events not yet durable", registry=GATEWAY)
CAPTURE_LOST = Counter("plaudit_capture_lost_total", "Completion events given up on", registry=GATEWAY)
QUOTA_UNAVAILABLE = Counter("plaudit_quota_unavailable_total", "Times that keys' limits could not be counted", registry=GATEWAY)
ENGINE_READY = Gauge("plaudit_engine_ready", "Engines that answer and have every adapter that is served", registry=GATEWAY)
ENGINES = Gauge("plaudit_engines", "Engines there should be", registry=GATEWAY)
CHAMPIONS_AWAY = Gauge("plaudit_champions_away", "Projects whose champion no ready engine has", registry=GATEWAY)
RETRIES = Counter("plaudit_engine_retries_total", "Answers begun again because an engine failed first", registry=GATEWAY)
ENGINE_RESTARTS = Counter("plaudit_engine_restarts_total", "Engine restarts seen by the gateway", registry=GATEWAY)
SWAPS = Counter("plaudit_swaps_total", "Adapters made live", ["outcome"], registry=GATEWAY)
SWAP_SECONDS = _seconds("plaudit_swap_seconds", "Publication to first token of a new adapter")
LOG_UP = Gauge("plaudit_log_up", "1 when the last completion events could be written", registry=GATEWAY)
DATABASE_UP = Gauge("plaudit_database_up", "1 while the database of keys and projects answers", registry=GATEWAY)

# admin: names adapters, which applications are not to know
ADAPTER_INFO = Gauge("plaudit_adapter_info", "1 for every adapter in use", ["project", "role", "adapter"], registry=ADMIN)

# log
LOG_LAG = Gauge("plaudit_log_lag_events", "Events not yet read by a group", ["group", "topic"], registry=LOG)
FORWARD_LAG = Gauge("plaudit_forward_lag_events", "Events not yet acknowledged by Kafka", registry=LOG)
FORWARD_OLDEST = Gauge("plaudit_forward_oldest_seconds", "Age of the oldest event not yet acknowledged by Kafka", registry=LOG)
FORWARD_REBUILDS = Gauge("plaudit_forward_rebuilds", "Kafka producers given up and rebuilt", registry=LOG)

# trainer
JOINED = Gauge("plaudit_joined_votes", "Votes joined to their completions", registry=TRAINER)
JOIN_RATE = Gauge("plaudit_join_rate", "Joined share of the feedback read", registry=TRAINER)
REWARD_ACCURACY = Gauge("plaudit_reward_accuracy", "Held-out accuracy of the reward model", registry=TRAINER)
REWARD_BASELINE = Gauge("plaudit_reward_majority_baseline", "Held-out accuracy of the majority", registry=TRAINER)
PPO_KL = Gauge("plaudit_ppo_kl_nats", "KL to the reference, nats a sequence", registry=TRAINER)
PPO_REWARD = Gauge("plaudit_ppo_reward", "Mean reward-model score of the last batch", registry=TRAINER)
PPO_CLIP_FRACTION = Gauge("plaudit_ppo_clip_fraction", "Share of clipped tokens", registry=TRAINER)
PPO_ENTROPY = Gauge("plaudit_ppo_entropy_nats", "Mean entropy per token", registry=TRAINER)
PPO_VALUE_LOSS = Gauge("plaudit_ppo_value_loss", "Value loss", registry=TRAINER)
CYCLES = Counter("plaudit_cycles_total", "Training cycles", ["outcome", "trigger"], registry=TRAINER)
EFFECTIVE_LABELS = Gauge("plaudit_effective_labels", "What new votes can teach, as labels, when last counted", registry=TRAINER)
NLL_RISE = Gauge("plaudit_nll_rise_ratio", "How much harder new votes are to foretell than held-out ones", registry=TRAINER)

# controller
ROLLOUT_STATE = Gauge("plaudit_rollout_state", "1 for the state the rollout is in", ["project", "state"], registry=CONTROLLER)
EVIDENCE = Gauge("plaudit_rollout_log_evidence", "Natural logarithm of an e-value", ["project", "test"], registry=CONTROLLER)
RATERS = Gauge("plaudit_raters", "Raters with a standing vote", ["project", "state"], registry=CONTROLLER)
VOTES_IN_DOUBT = Gauge("plaudit_votes_in_doubt", "Votes of paused raters that do not count", ["project"], registry=CONTROLLER)
AGREEMENT = Gauge("plaudit_rater_agreement_alpha", "Krippendorff's alpha", ["project", "kind"], registry=CONTROLLER)
FALLS_WITHHELD = Gauge(
    "plaudit_rater_falls_withheld", "Raters who fell at once with so many that none was paused", ["project"], registry=CONTROLLER
)


def render(*registries: CollectorRegistry) -> bytes:
    """The registries in Prometheus' text format."""
    return b"".join(generate_latest(registry) for registry in registries)


def serve_metrics(setting: str, port: int, host: str, *registries: CollectorRegistry) -> None:
    """Answer ``/metrics`` of this process on a port; 0 turns it off. Raises `CommandError` naming the setting."""
    if not port:
        return
    check_port(setting, host, port)
    both = CollectorRegistry()
    for registry in registries:
        both.register(registry)
    start_http_server(port, addr=host, registry=both)
