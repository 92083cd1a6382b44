"""What runs on a metal node while its disk is written: Python's standard library only, started by ``init``.

The agent tells what machine it is on and obeys one signed plan for that machine; it decides nothing.
"""
