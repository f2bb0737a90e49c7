"""Model packages: what a model needs, refuses and says, declared in one file beside its weights."""
