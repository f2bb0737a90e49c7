"""Networks as packages declare them: weights to functions, volumes to windows, answers back to the series' grid."""
