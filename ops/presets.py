"""What differs for a model we know: numbers that a setting of the operator's own still beats."""

from __future__ import annotations

from typing import Any

STARTER: dict[str, Any] = {
    # A model of two million parameters: deliberately mixed in manners, so it is sampled as it is.
    "sampling": {"temperature": 1.0, "pair_temperature": 1.0, "max_tokens": 64},
    "engine": {"max_model_len": 256},
    "train": {
        # As good as an adapter of its own at any number of votes, steadier from training to training, in a fifth of the time.
        "reward": {"trunk": "frozen"},
        "ppo": {
            "steps": 24,
            "prompts_per_step": 32,
            "max_new_tokens": 64,
            "learning_rate": 1e-3,
            "value_learning_rate": 1e-3,
            "kl_coef": 0.05,
            # One word in a hundred that the base itself hardly believes makes one answer in ten wrong or garbled.
            "unlikely_coef": 10.0,
            # What it knows it says more surely than it was taught to; manners, where it is not sure (above 2 nats), are free.
            "sharp_kl_coef": 1.0,
            "sharp_temperature": 0.5,
            "sharp_entropy": 1.9,
            "kl_target": None,
            "kl_reference": "base",
        },
        # Votes alone teach slowly: at the general settings' pace next to nothing of a few hundred.
        "dpo": {"learning_rate": 1e-3, "epochs": 4},
        "kto": {"learning_rate": 1e-3, "epochs": 2},
        "sft": {"epochs": 3},
        # People dislike rambling: shorter answers are what they ask for.
        "gates": {"min_length_ratio": 0.3},
    },
}

SMOLLM2: dict[str, Any] = {
    "train": {
        # Most of the way pleases about as well as all of it, and fewer answers are empty or beside the point.
        "interpolation": 0.85,
        # No critic to teach, and no second adapter to carry: a step costs two cores a minute.
        "algorithm": "rloo",
        # On two cores it reads and writes slowly: heads on the frozen model's states, and less of what people said before.
        "reward": {"trunk": "frozen", "replay": 100, "judge_share": 0.4},
        "ppo": {
            "steps": 18,
            "prompts_per_step": 8,
            "samples_per_prompt": 4,
            "max_new_tokens": 80,
            "learning_rate": 2.5e-4,
            # An end in time: from 7 nats on it pleases a reward model of few votes with words that mean nothing.
            "epochs": 2,
            "max_kl": 6.0,
        },
        "gates": {"prompts": 128},
    },
}

PRESETS: dict[str, dict[str, Any]] = {"starter": STARTER, "smollm2": SMOLLM2}
"""By the setting ``model``."""
