"""How fast it is: the engine against a plain loop, the Ray path against stock Flower."""
