"""How often to checkpoint: the theory (docs/metrics.md, "Checkpoint interval"). Pure functions of seconds.

Symbols: s = what one checkpoint blocks or slows (stall + interference); p = from the training thread's release until
the checkpoint is durable; tau = compute between checkpoints; M = mean time between failures of the job; R = detect +
restart + restore; m = checkpoints in flight at most; t = one step.
"""

import math

# How far beside the best interval the expected ETTR may fall before an interval is called worse: the optimum is flat.
FLAT_LOSS = 0.005


def young_s(s: float, mtbf_s: float) -> float:
    """sqrt(2 s M) (Young, CACM 1974)."""
    return math.sqrt(2 * s * mtbf_s)


def daly_s(s: float, mtbf_s: float) -> float:
    """Daly's higher-order optimum (FGCS 2006, eq. 37; LLNL SCR scr_ckpt_interval.py): M where s >= 2 M."""
    if s >= 2 * mtbf_s:
        return mtbf_s
    root = math.sqrt(s / (2 * mtbf_s))
    return math.sqrt(2 * s * mtbf_s) * (1 + root / 3 + root * root / 9) - s


def availability_s(s: float, mtbf_s: float, restart_s: float) -> float:
    """Compute between checkpoints at the best availability: Saxena et al. (arXiv 2410.18124) give the whole cycle
    s + sqrt(2 (M + R) s + s^2); the checkpoint itself is taken off it."""
    return math.sqrt(2 * (mtbf_s + restart_s) * s + s * s)


def ettr(tau: float, s: float, p: float, mtbf_s: float, restart_s: float) -> float:
    """Expected productive share of wall-clock: (1 - (R + tau/2 + p)/M) / (1 + s/tau), 0 where failures leave none.

    To first order the waste s/tau + (tau/2 + p + R)/M: only s is divided by tau, so sqrt(2 s M) is best for engines
    that persist in the background too. What a failure loses with p does not depend on tau.
    """
    return max(0.0, 1 - (restart_s + tau / 2 + p) / mtbf_s) / (1 + s / tau)


def floor_s(p_alone: float, p: float, max_inflight: int, *, shared_disk: bool) -> float:
    """The shortest interval at which checkpoints still drain: the latency of a lone persist where writers share one
    disk, p/m only where m persists truly go on at once."""
    return p_alone if shared_disk else p / max_inflight


def steps(tau: float, floor: float, step_s: float) -> int:
    """The interval in steps: max(k_min, round(tau/t)) with k_min = max(1, ceil(floor/t)) (CheckFreq, FAST'21)."""
    return max(1, math.ceil(floor / step_s - 1e-9), round(tau / step_s))


def flat_band(
    best: int, least: int, step_s: float, s: float, p: float, mtbf_s: float, restart_s: float
) -> tuple[int, int]:
    """The shortest and longest interval (steps, at least `least`) whose expected ETTR lies within FLAT_LOSS of the
    one at `best`. ETTR rises up to its optimum and falls beyond, so each end is found by bisection."""

    def is_good(k: int) -> bool:
        return ettr(k * step_s, s, p, mtbf_s, restart_s) >= bound

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
