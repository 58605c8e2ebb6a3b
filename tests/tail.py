"""The tail of a bound: how often p-values of right draws fall below 1e-2, 1e-3, 1e-4 and 1e-5, on fresh seeds.

python tests/tail.py 2000 [--entropy N]

What is asked is the correlations of test_brownian_path.test_the_covariance_of_a_path_is_the_earlier_time, 66 a seed,
by the law that their bound in honest.py is a quantile of. An alarm of an audit is chance where the shares are right.
"""

import argparse
from itertools import combinations

import numpy as np
from honest import flat
from scipy import stats
from test_brownian_path import CLOCKS, increment

import sdekit as sk


def p_values(seed):
    """One for each pair of clocks: the correlation of a path's increment between them with the path before."""
    noise = sk.BrownianPath((seed, 10))
    w = {c: flat(increment(noise, 0.0, c, 500, 4)) for c in CLOCKS}
    n = len(w[CLOCKS[0]])
    squares = []
    for a, b in combinations(CLOCKS, 2):
        gap = w[b] - w[a]
        squares.append((gap @ w[a]) ** 2 / ((gap @ gap) * (w[a] @ w[a])))
    return stats.beta.sf(squares, 0.5, (n - 1) / 2)


def main():
    """Prints the shares beside what they would be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int)
    parser.add_argument("--entropy", type=int, default=778)
    options = parser.parse_args()
    seeds = np.random.SeedSequence(options.entropy).generate_state(options.seeds).tolist()
    found = np.concatenate([p_values(seed) for seed in seeds])
    print(f"{len(found)} p-values of {len(seeds)} seeds; the least is {found.min():.1e}")
    for level in (1e-2, 1e-3, 1e-4, 1e-5):
        print(f"below {level:g}: a share of {(found < level).mean():.3g}")


if __name__ == "__main__":
    main()
