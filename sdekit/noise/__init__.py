"""Randomness: one source, passed in. No function of sdekit touches torch's global generator.

A draw belongs to an interval of time and to a stream. ``noise(x, t, s)`` is the Brownian increment between the levels
s and t, scaled to a standard normal; corrector, churn, prior, loss and probe draws have streams of their own.

- :class:`Noise`: fast, batch-wide, independent draws from one torch generator a device.
- :class:`KeyedNoise`: counter-based; what a row receives depends on (seed, id, interval, stream) and on nothing else.
- :class:`BrownianPath`: keyed, and the increments of one path a row: they add up over intervals.
"""

from .checks import Seed, check_noise, fold
from .counter import inverse_normal_cdf, philox
from .generator import Noise
from .keyed import KeyedNoise
from .path import BrownianPath

__all__ = ["BrownianPath", "KeyedNoise", "Noise", "Seed", "check_noise", "fold", "inverse_normal_cdf", "philox"]
