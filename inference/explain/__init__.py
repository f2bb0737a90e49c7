"""Why a model says what it says, and how sure it is: saliency and uncertainty."""
