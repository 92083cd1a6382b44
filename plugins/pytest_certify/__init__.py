"""The pytest edge of certify. :mod:`pytest_certify.plugin` is the entry point; nothing else loads without ``--image``."""
