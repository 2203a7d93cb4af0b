"""The simulated world, a pure function of a seed: places and their sensors, what they measure, how gateways behave."""
