"""LaTeX: what it would read as its own, and minus signs."""

from ecrl.report.formats.latex import escape


def test_tex_escapes_what_latex_would_read() -> None:
    assert escape("a_b & 5 % **x** `y_z` {[1]} – ~") == (
        r"a\_b \& 5 \% \textbf{x} \texttt{y\_\allowbreak{}z} \{{[}1]\} -- \textasciitilde{}"
    )


def test_a_minus_is_set_as_one_and_a_hyphen_stays() -> None:
    assert escape("-0.5 [-2.1, -.3] a-1 1-2 overlapped - blocking") == (
        "$-$0.5 {[}$-$2.1, $-$.3] a-1 1-2 overlapped - blocking"
    )
