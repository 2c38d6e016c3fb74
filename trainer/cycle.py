"""The learner's loop: read, learn what people like, improve the policy, try it, commit and publish. Again when enough is new."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog

from feedback.events import BASE
from feedback.log import EventLog, TopicReader
from feedback.raters.weights import reliability
from ops import metrics
from ops.hours import within_hours
from ops.models import prepared
from ops.registry import Registry
from ops.retention import letter_hours
from ops.settings import Settings
from trainer.adapter_files import AdapterFileError
from trainer.attempt import Attempt, point_of
from trainer.budget import is_shortage, unlimited_memory
from trainer.checkpoint import Checkpoint, journal
from trainer.examples import weighted
from trainer.improve import Ended, improve
from trainer.inbox import Inbox
from trainer.learn import keep, learn, seed_for
from trainer.learner import LeftTheCrew, Metrics, NothingToLearn, TrainingDiverged
from trainer.load import load_model
from trainer.parallel import ALONE, Crew
from trainer.policy import AdapterModel, ModelUnsupported
from trainer.probes.anchor import anchor_passages
from trainer.probes.personal import conversations
from trainer.record import CycleRecord, Outcome
from trainer.reward import LONGEST_PROMPT, encode_prompt
from trainer.rollouts import EngineRollouts, LocalRollouts, RolloutSource, with_fallback
from trainer.soften import interpolate, soften
from trainer.tracker import Tracker
from trainer.trial import CHAMPION, POLICY, PROBE_SEED, Standards, Trial, divide_prompts
from trainer.watch import Watch

_log = structlog.get_logger(__name__)

Failure = tuple[Outcome, str]
"""And why."""

REINFORCED = ("ppo", "rloo")
"""The algorithms that sample answers and are rewarded; the others are `trainer.offline`'s."""


class Trainer:
    """A project's trainer; the caller holds the checkpoint's lease."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        checkpoint: Checkpoint,
        *,
        tracker: Tracker | None = None,
        clock: Callable[[], float] = time.time,
        crew: Crew = ALONE,
    ) -> None:
        self._settings, self._clock, self.checkpoint, self._crew = settings, clock, checkpoint, crew
        self._tracker = tracker or Tracker()
        self._steps = sum(len(line["steps"]) for line in journal(checkpoint.folder))
        self._registry = Registry(settings.adapters_dir)
        self._inbox = Inbox(log, settings.project)
        self._loaded = checkpoint.open(clock())
        self._kept = checkpoint.progress.found()
        self._watch = Watch(settings, self._loaded)

    def cycle(self, asked: bool = False) -> CycleRecord | None:
        """One cycle, if it is time for one (see `trainer.watch`), or if ``asked`` and any vote is new; its record, else None."""
        cycle = self.read(asked)
        if cycle is None:
            return None
        short = f"out of memory (train.memory_mb={self._settings.train.memory_mb})"
        exhausted: Failure = "failed", f"{short}: nothing was left"
        try:
            failure = self._train(cycle, short)
        except MemoryError:  # too little to handle one where it came; what its frames held is free again here
            failure = exhausted
        except LeftTheCrew as error:
            with unlimited_memory():
                self._give_up(cycle, "failed", str(error))
            raise
        if failure is None:
            return self.commit(cycle)
        with unlimited_memory():
            return self._give_up(cycle, *failure)

    def _train(self, cycle: Attempt, short: str) -> Failure | None:
        """All stages but the last, and what they came to nothing by."""
        if not cycle.batch.prompts:
            return "failed", "nothing that people asked can be asked again: it had tools, was not answered, or has been erased"
        try:
            cycle.model = load_model(self._settings, cycle.ref)
            self.learn(cycle)
            if cycle.learnt.knows:
                self.improve(cycle)
                self.gate(cycle)
        except TrainingDiverged as error:
            return "diverged", str(error)
        except (AdapterFileError, ModelUnsupported, NothingToLearn) as error:  # a champion that has other modules, say
            return "failed", str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            return "failed", f"{short}: {str(error) or type(error).__name__}"
        return None

    @property
    def readers(self) -> list[TopicReader]:
        return self._inbox.readers

    # the five stages

    def read(self, asked: bool = False) -> Attempt | None:
        """What the log holds now, if there is reason to learn from it; outside of the schedule's hours, only who asks has one."""
        if (unfinished := self._unfinished()) is not None:  # at any hour: what has begun goes on to its end
            return unfinished
        self._inbox.refresh()
        self._inbox.bury(self._clock(), self._settings.train.orphan_hours, letter_hours(self._settings.retention))
        if not (asked or within_hours(self._settings.train.hours, self._clock())):
            return None
        batch = self._inbox.batch(self._loaded.state.offsets)
        trigger = self._watch.trigger(batch) if not asked else "asked" if self._watch.fresh(batch) else None
        if trigger is None:
            return None
        _log.info("cycle_begins", cycle=self._loaded.state.cycle + 1, trigger=trigger, new_votes=len(batch.new))
        return Attempt(batch, trigger, self._loaded, prepared(self._settings))

    def learn(self, cycle: Attempt) -> None:
        """Reward model and judge from votes."""
        with cycle.stage("reward"):
            done = None if cycle.kept is None else cycle.kept.models
            settings = self._settings
            cycle.learnt = learn(cycle.model, cycle.batch, cycle.before, settings.train, settings.seed, done)
        if cycle.learnt.knows and done is None:
            point = point_of(settings, cycle.ref, cycle.before, cycle.batch, cycle.trigger)
            self.checkpoint.progress.begin(point, lambda folder: keep(cycle.learnt, folder))
        figures = cycle.learnt.reward.report
        metrics.REWARD_ACCURACY.set(math.nan if figures.accuracy is None else figures.accuracy)
        metrics.REWARD_BASELINE.set(math.nan if figures.majority is None else figures.majority)
        cycle.gates += cycle.learnt.gates

    def improve(self, cycle: Attempt) -> None:
        """A new adapter, learnt by the settings' algorithm from the champion's weights on."""
        train = self._settings.train
        source = None if cycle.champion == BASE else self._registry.path(cycle.batch.champion)
        if source is not None:
            cycle.model.add(CHAMPION, source=source)
        cycle.model.add(POLICY, source=source)
        start = {key: weight.clone() for key, weight in cycle.model.weights(POLICY).items()}
        self._steps += cycle.steps_kept
        with cycle.stage("improve"):
            train_by = self._reinforce if train.algorithm in REINFORCED else self._imitate
            cycle.steps, cycle.ended_by = train_by(cycle)
            interpolate(cycle.model, POLICY, start, train.interpolation)
            cycle.softened = self._soften(cycle)
        ended = {"by": cycle.ended_by, "steps": len(cycle.steps), "softened": cycle.softened}
        _log.info("improve_ended", cycle=cycle.number, **ended)

    def gate(self, cycle: Attempt) -> None:
        """Try the new adapter beside the champion."""
        _, prompts = divide_prompts(cycle.batch.prompts, cycle.ref.domain)
        with cycle.stage("gate"):
            trial = Trial(
                cycle.model,
                cycle.champion,
                prompts,
                cycle.ref.domain,
                self._settings,
                sampling=cycle.ref.sampling(self._settings.sampling),
                seed=seed_for(self._settings.seed, cycle.number, "gate"),
            )
            results, cycle.standards = trial.run(
                cycle.learnt.judge.model,
                self._standards(cycle.batch.champion),
                reward=cycle.learnt.reward.model,
                learnt=conversations(cycle.batch.votes, cycle.batch.prompts),
                engines=self._engines(cycle.model),
            )
        cycle.gates += results

    def commit(self, cycle: Attempt) -> CycleRecord:
        """Publish the adapter, if there is one, and make the cycle count: all of it, or nothing."""
        passed = all(gate.passed for gate in cycle.gates)
        outcome: Outcome = "no_signal" if not cycle.learnt.knows else "published" if passed else "rejected"
        reason = "; ".join(f"{gate.name}: {gate.detail}" for gate in cycle.gates if not gate.passed)
        record = cycle.record(outcome, reason, self._clock())
        publication = cycle.publication(self._settings) if cycle.learnt.knows else None
        adapter = self.checkpoint.commit(cycle.state, record, publication, cycle.fill, self._clock())
        self._tracker.cycle(self._steps, record)
        self._loaded = self.checkpoint.open(self._clock())
        self._watch = Watch(self._settings, self._loaded)
        metrics.CYCLES.labels(outcome=outcome, trigger=cycle.trigger).inc()
        _log.info("cycle_done", cycle=cycle.number, outcome=outcome, adapter=adapter, seconds=cycle.seconds)
        return record.model_copy(update={"adapter": adapter})

    # what they need

    def _reinforce(self, cycle: Attempt) -> tuple[list[Metrics], Ended]:
        """By the reward model, on people's questions."""
        train = self._settings.train
        prompts, _ = divide_prompts(cycle.batch.prompts, cycle.ref.domain)
        result = improve(
            cycle.model,
            [encode_prompt(cycle.model, prompt)[-LONGEST_PROMPT:] for prompt in prompts],
            cycle.learnt.reward.model.cautious,
            settings=train.ppo,
            algorithm=train.algorithm,
            rollouts=self._rollouts(cycle.model),
            seed=seed_for(self._settings.seed, cycle.number, "improve"),
            reference=BASE if train.ppo.kl_reference == "base" else cycle.champion,
            on_step=self._on_step,
            resume=None if cycle.kept is None else cycle.kept.loop,
            keep=self.checkpoint.progress.keep,
            keep_every=train.keep_every,
            crew=self._crew,
        )
        return result.steps, result.ended_by

    def _imitate(self, cycle: Attempt) -> tuple[list[Metrics], Ended]:
        """By the very votes that the reward model has learnt from: the judge's people are not asked here either."""
        from trainer.offline import learn_offline  # TRL takes seconds to import

        heard = cycle.learnt.reward.model.heard
        lessons = weighted(cycle.learnt.reward.lessons)
        return learn_offline(
            cycle.model,
            cycle.batch.votes,
            {lesson.feedback_id: lesson.weight * reliability(heard(lesson)) for lesson in lessons},
            algorithm=self._settings.train.algorithm,
            settings=self._settings.train,
            seed=seed_for(self._settings.seed, cycle.number, "improve"),
            on_step=self._on_step,
        )

    def _soften(self, cycle: Attempt) -> float:
        train = self._settings.train
        if train.soften_to is None:
            return 1.0
        texts = anchor_passages(cycle.model, cycle.ref.domain, PROBE_SEED)
        return soften(cycle.model, POLICY, texts, 1 + train.soften_to * train.gates.max_anchor_rise)

    def _unfinished(self) -> Attempt | None:
        """What a trainer that was killed was at, if this one would do the very same; what else it left is dropped."""
        if self._kept is None:
            return None
        kept, self._kept = self._kept, None
        point = kept.point
        self._inbox.refresh(until=point.offsets)
        if point.cycle == self._loaded.state.cycle + 1 and self._inbox.reaches(point.offsets):
            batch, ref = self._inbox.batch(self._loaded.state.offsets), prepared(self._settings)
            if point_of(self._settings, ref, self._loaded, batch, point.trigger) == point:
                _log.info("cycle_resumed", cycle=point.cycle, steps=len((kept.loop or {}).get("steps", ())))
                return Attempt(batch, point.trigger, self._loaded, ref, kept=kept)
        _log.info("progress_dropped", cycle=point.cycle)
        self.checkpoint.progress.drop()
        return None

    def _on_step(self, step: dict[str, float]) -> None:
        self.checkpoint.check()
        self._steps += 1
        self._tracker.step(self._steps, step)
        _show(step)

    def _rollouts(self, model: AdapterModel) -> RolloutSource:
        """From the first engine that delivers; generated here where none does, or none is to."""
        source: RolloutSource = LocalRollouts(model)
        for engine in reversed(self._engines(model)):
            source = with_fallback(engine, source)
        return source

    def _engines(self, model: AdapterModel) -> list[RolloutSource]:
        """Those that the trainer may ask."""
        if self._settings.train.rollouts == "local":
            return []
        scratch, key = self._settings.trainer_dir / "rollouts", self._settings.engine_token
        return [EngineRollouts(url, model, scratch, api_key=key) for url in self._settings.engines]

    def _standards(self, champion: str) -> Standards:
        """What the champion's own manifest says of it and of those before it."""
        return {} if champion == BASE else self._registry.get(champion).training.get("standards", {})

    def _give_up(self, cycle: Attempt, outcome: Outcome, reason: str) -> CycleRecord:
        """Training came to nothing: publish and commit nothing, say why, and wait for more votes."""
        self._watch.gave_up(cycle.batch)
        record = cycle.record(outcome, reason, self._clock())
        self.checkpoint.progress.drop()
        self.checkpoint.tell(record)
        self._tracker.cycle(self._steps, record)
        metrics.CYCLES.labels(outcome=outcome, trigger=cycle.trigger).inc()
        _log.error("training_gave_up", cycle=cycle.number, outcome=outcome, reason=reason)
        return record


def _show(step: dict[str, float]) -> None:
    for gauge, key in (
        (metrics.PPO_KL, "objective/kl"),
        (metrics.PPO_REWARD, "objective/score"),
        (metrics.PPO_CLIP_FRACTION, "policy/clip_fraction"),
        (metrics.PPO_ENTROPY, "policy/entropy"),
        (metrics.PPO_VALUE_LOSS, "value/loss"),
    ):
        if key in step:
            gauge.set(step[key])
