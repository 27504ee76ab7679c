"""`python -m benchmarks`: what each step costs. How often teachers are recovered: `python -m benchmarks.recovery`."""

from .phases import main

main()
