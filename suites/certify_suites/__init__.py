"""The suites that come with certify. Each is a package with ``VERSION`` and ``DEFAULTS`` (its settings)."""
