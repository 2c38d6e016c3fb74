"""What a trained adapter is asked beside people's questions: by the probability it gives to words, so nothing is generated."""
