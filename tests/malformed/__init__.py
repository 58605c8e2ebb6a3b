"""Bad input, systematically: wrong values by kind of parameter, crossed with every public callable."""
