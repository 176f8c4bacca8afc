"""What a strategy may say of requests that reach the candidate beside the weights: matches, mirrors and previews.

Inside one rule everything must hold, and of a list one is enough. Start at MatchFile, MirrorFile and PreviewFile.
"""

from __future__ import annotations

MOST_RULES = 32
MOST_VALUES = 64
MOST_NETWORKS = 1024
METHODS = ("GET", "HEAD", "OPTIONS")  # what may be done twice
