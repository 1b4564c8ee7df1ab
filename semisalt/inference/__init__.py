"""From probabilities to masks: prediction, post-processing, the operating point, the submission."""
