"""The simulated world, a pure function of a seed: sites, sensors, their values, and the behaviour of gateways."""
