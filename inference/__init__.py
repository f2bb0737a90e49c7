"""From a series to a prediction: the model wing, the only one that may load torch."""
