"""When to learn again: enough new labels, another champion, or people who judge otherwise than they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import ceil

import structlog

from ops import metrics
from ops.models import prepared
from ops.settings import Settings
from trainer.adapter_files import AdapterFileError
from trainer.budget import is_shortage
from trainer.checkpoint import JUDGE, REWARD, Loaded
from trainer.drift import drift_of, nats_by_kind
from trainer.effective import effective_labels
from trainer.examples import Example, believed, divide, parted, unseen
from trainer.inbox import Batch
from trainer.load import load_model
from trainer.record import Trigger
from trainer.reward import RewardModel
from trainer.spread import Spread

_log = structlog.get_logger(__name__)


class Watch:
    """Over what comes after the commit ``before``. Looks closely only now and then, and asks the models about each vote once."""

    def __init__(self, settings: Settings, before: Loaded) -> None:
        self._settings, self._before = settings, before
        self._hopeless: frozenset[str] = frozenset()
        """New votes on which training has come to nothing: trying again on the same would end the same."""
        self._tried = before.state.champion
        self._next = 0
        """So many votes have to be new until it is worth counting again what they can teach."""
        self._nats: dict[str, dict[str, float]] = {}
        """By stratum (a model and a kind of judgement) and feedback id."""
        self._asked: frozenset[str] = frozenset()

    def gave_up(self, batch: Batch) -> None:
        """Training on it came to nothing."""
        self._hopeless, self._tried, self._next = batch.new, batch.champion, 0

    def fresh(self, batch: Batch) -> frozenset[str]:
        """New votes that may change something."""
        return batch.new - self._hopeless

    def trigger(self, batch: Batch) -> Trigger | None:
        """Why a cycle should begin now; None where it should not."""
        train, count = self._settings.train, len(self.fresh(batch))
        if count < train.min_new_votes:
            return None
        promoted = train.retrain_on_promotion and self._before.state.cycle > 0 and batch.champion != self._tried
        if count < self._next and not promoted:
            return None
        examples = believed(batch.votes)
        effective = effective_labels(parted(examples, train.reward.goals)[0], self.fresh(batch))
        metrics.EFFECTIVE_LABELS.set(effective)
        if effective >= train.min_effective_labels:
            return "labels"
        if promoted:
            return "champion"
        # a vote counts 1 at most; half of what is missing, as those of newcomers count more from day to day
        missing = ceil((train.min_effective_labels - effective) / 2)
        self._next = count + min(missing, train.min_new_votes)
        return "drift" if self._drifted(examples, batch) else None

    def _drifted(self, examples: Sequence[Example], batch: Batch) -> bool:
        rise = self._settings.train.max_nll_rise
        if rise is None or len(batch.new - self._asked) < self._settings.train.min_new_votes:
            return False
        try:
            self._ask(examples, batch)
        except (AdapterFileError, MemoryError, RuntimeError) as error:  # another rank than at the commit, say
            if not isinstance(error, AdapterFileError) and not is_shortage(error):
                raise
            _log.warning("drift_not_measured", reason=str(error))
        self._asked = batch.new
        standing = {name: [nats for vote, nats in own.items() if vote in batch.new] for name, own in self._nats.items()}
        drift = drift_of(self._held_out, standing)
        metrics.NLL_RISE.set(drift.nll / drift.expected - 1 if drift.expected else 0.0)
        if drift.n:
            _log.info("drift_measured", **asdict(drift))
        return drift.above(rise)

    @property
    def _held_out(self) -> dict[str, Spread]:
        return {f"{model} {kind}": each for model, own in self._before.state.held_out.items() for kind, each in own.items()}

    def _ask(self, examples: Sequence[Example], batch: Batch) -> None:
        """Both models of the commit, about the other one's people: those of their new votes that it was not asked about yet."""
        settings, before = self._settings, self._before
        division = divide(examples, settings.train.reward.judge_share)
        if division.by != before.state.divided_by or before.reward is None or before.judge is None:
            return
        model = load_model(settings, prepared(settings))
        for name, folder, own, others in (
            (REWARD, before.reward, division.reward, division.judge),
            (JUDGE, before.judge, division.judge, division.reward),
        ):
            known = [example for example in own if example.feedback_id not in batch.new]
            strange = [e for e in unseen(others, known) if e.feedback_id in batch.new - self._asked]
            reward = RewardModel(model, name, source=folder)
            for kind, nats in nats_by_kind(reward, strange, reward.score_examples(strange)).items():
                self._nats.setdefault(f"{name} {kind}", {}).update(nats)
