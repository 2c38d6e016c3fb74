"""What the other processes of a trainer do (see `trainer.parallel`): what the first one's `Learner` does, on their own rows."""

from __future__ import annotations

from typing import Any

import torch

from ops.settings import PpoSettings
from trainer.experience import Experience
from trainer.learner import Critic, Learner, TrainingDiverged
from trainer.parallel import Crew
from trainer.policy import AdapterModel


def assist(model: AdapterModel, crew: Crew) -> None:
    """Until the first process tells that it is done. The model has the first one's base and no adapter yet."""
    helper: Learner | None = None
    random = torch.Generator()
    while (message := crew.hear()) is not None:
        if "begin" in message:
            helper = _begin(model, message["begin"], random, crew)
        elif "end" in message:
            for name in model.names:
                model.remove(name)
        else:
            random.set_state(message["random"])
            _learn(helper, message["learn"], Experience.from_state(message["experience"], model.device))


def _begin(model: AdapterModel, told: dict[str, Any], random: torch.Generator, crew: Crew) -> Learner:
    for name, (model.rank, model.alpha) in told["adapters"].items():
        model.add(name)
    critic = Critic(model) if told["critic"] else None
    helper = Learner(model, PpoSettings(**told["settings"]), critic, random, crew)
    helper.load_state_dict(told["state"])
    return helper


def _learn(helper: Learner, what: str, experience: Experience) -> None:
    try:
        (helper.warm_up if what == "warm_up" else helper.update)(experience)
    except TrainingDiverged:  # the first process has seen the same, and says so
        return
