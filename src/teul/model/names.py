"""Names for containers that were given none: an adjective and the name of somebody who built or described something lasting."""

from __future__ import annotations

import secrets

_ADJECTIVES = """
    able agile amber apt bold brave brisk calm candid clear clever cool crisp deft eager early exact fair fleet fond frank fresh
    gentle glad grand happy hardy honest jolly just keen kind light lively loyal lucid mellow merry mild modest neat nimble noble
    open patient plain polite proud pure quick quiet rapid ready robust serene sharp silent simple sincere sleek smart smooth snug
    solid sound stable steady stoic subtle sunny sure swift tidy trusty upbeat vivid warm wise witty zesty
""".split()  # noqa: SIM905 - words, not a column of quotes
_SURNAMES = """
    abel ampere archimedes babbage banach bassi boole brunel cantor carson cauchy cerf chadwick curie darwin dijkstra eiffel erdos
    euclid euler fermat fermi feynman franklin galileo galois gauss goodall hamming hertz hooke hopper huygens hypatia jang joule
    kelvin kepler knuth kolmogorov lagrange lamarr leibniz liskov lovelace maxwell meitner mendel mirzakhani moore nash newton
    nobel noether pascal pasteur perlman planck poincare ramanujan ride ritchie sejong shannon snow stallman tesla thompson turing
    volta watt wozniak yonath
""".split()  # noqa: SIM905 - words, not a column of quotes


def random_name(attempt: int = 0) -> str:
    """A name like `swift_noether`; later attempts carry a digit, as Docker's do."""
    name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
    return f"{name}{secrets.randbelow(10)}" if attempt else name
