"""certify: is this image good, on everything we run it on, and is what runs exactly what we tested?

The packages follow the flow of the data, which only moves right; none imports one to its right:
``images`` → ``nodes`` → ``evidence`` → ``gate`` → ``trust`` → ``deploy`` → ``cli``.
"""

__version__ = "0.1.0"
