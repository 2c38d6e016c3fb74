"""The learner: examples from the log, reward model, PPO, gates, publication, all committed with their offsets."""
