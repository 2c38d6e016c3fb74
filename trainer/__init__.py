"""The learner: examples from the log, reward model, PPO, gates, publication, all committed with their offsets."""

import os

# Before PyTorch loads OpenMP. By default a thread that waits for the others spins: beside the engine, or anything else on the
# same cores, a step then takes many times as long (on two cores with two busy processes 1.5 to 5 s instead of 0.2 to 0.5 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
