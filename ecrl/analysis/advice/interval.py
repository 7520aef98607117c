"""The theory of the checkpoint interval (docs/metrics.md, "Checkpoint interval"). Pure functions of seconds.

Symbols: s = time that one checkpoint costs the training thread (stall + interference); p = time from the training
thread's release until the checkpoint is durable; tau = compute between checkpoints; M = mean time between failures of
the job; R = detect + restart + restore + rewarm; m = most checkpoints in flight; t = one step; k = the
interval in steps.
"""

import math

# An interval whose expected ETTR is lower than the best one's by at most this much counts as equally good: the
# optimum is flat.
FLAT_LOSS = 0.005


def young_s(s: float, mtbf_s: float) -> float:
    """sqrt(2 s M) (Young, CACM 1974)."""
    return math.sqrt(2 * s * mtbf_s)


def daly_s(s: float, mtbf_s: float) -> float:
    """Daly's higher-order optimum (FGCS 2006, eq. 37; LLNL SCR scr_ckpt_interval.py); M if s >= 2 M."""
    if s >= 2 * mtbf_s:
        return mtbf_s
    root = math.sqrt(s / (2 * mtbf_s))
    return math.sqrt(2 * s * mtbf_s) * (1 + root / 3 + root * root / 9) - s


def availability_s(s: float, mtbf_s: float, restart_s: float) -> float:
    """Compute between checkpoints at the best availability: sqrt(2 (M + R) s + s^2).

    Source: Saxena et al., arXiv 2410.18124.
    """
    # the paper's formula is the whole cycle, s + sqrt(2 (M + R) s + s^2); s is subtracted here
    return math.sqrt(2 * (mtbf_s + restart_s) * s + s * s)


def ettr(tau: float, s: float, p: float, mtbf_s: float, restart_s: float) -> float:
    """Expected productive share of wall-clock: tau exp(-(R + p)/M) / (M (exp((tau + s)/M) - 1)).

    Source: Daly's complete model (FGCS 2006), with p as a part of each failure.
    """
    # Failures may strike a restart, too. Only tau + s grows with the interval, so its optimum does not depend on R and
    # p, and sqrt(2 s M) comes near it for engines that persist in the background, too.
    cycle = (tau + s) / mtbf_s
    # exp(cycle) does not fit a float where a cycle is hundreds of MTBFs long; exp(-cycle) is 0 there
    return tau / mtbf_s * math.exp(-(restart_s + p) / mtbf_s - cycle) / -math.expm1(-cycle)


def floor_s(p_alone: float, p: float, max_inflight: int, *, shared_disk: bool) -> float:
    """The shortest interval at which checkpoints still drain, in seconds of compute.

    shared_disk: all writers share one disk; the interval is then the latency of a persist that no other overlaps.
    Otherwise m persists run in parallel, and the interval is p/m.
    """
    return p_alone if shared_disk else p / max_inflight


def steps(tau: float, floor: float, step_s: float) -> int:
    """The interval in steps: max(k_min, round(tau/t)) with k_min = max(1, ceil(floor/t)) (CheckFreq, FAST'21)."""
    return max(1, math.ceil(floor / step_s - 1e-9), round(tau / step_s))


def flat_band(
    best: int, least: int, step_s: float, s: float, p: float, mtbf_s: float, restart_s: float
) -> tuple[int, int]:
    """The shortest and the longest interval, in steps, whose expected ETTR lies within FLAT_LOSS of that at `best`.

    Neither is below `least`.
    """

    def is_good(k: int) -> bool:
        return ettr(k * step_s, s, p, mtbf_s, restart_s) >= bound

    # ETTR rises up to its optimum and falls beyond it, so bisection finds each end
    bound = ettr(best * step_s, s, p, mtbf_s, restart_s) - FLAT_LOSS
    low, bad = best, least - 1
    while low - bad > 1:
        middle = (low + bad) // 2
        low, bad = (middle, bad) if middle >= least and is_good(middle) else (low, middle)
    high = best
    while is_good(high * 2) and high * step_s < mtbf_s:
        high *= 2
    bad = high * 2
    while bad - high > 1:
        middle = (high + bad) // 2
        high, bad = (middle, bad) if is_good(middle) else (high, middle)
    return low, high
