"""Certificates: what a sampler is, measured against closed forms."""

from . import catalogue
from .certificate import Certificate, Check, table
from .run import certify, check
from .subject import Sampler

__all__ = ["Certificate", "Check", "Sampler", "catalogue", "certify", "check", "table"]
