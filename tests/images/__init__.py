"""The sample images, as recipes (``*.yaml``) and a small builder. ``python -m tests.images`` builds what is missing."""
