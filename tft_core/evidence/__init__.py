"""What a Sharpe ratio is worth: deflation, overfitting, comparison of paths, and the count.

Public figures are annualised; the formulas inside work per day, and convert at their edge.
An undefined figure is NaN. Nothing here trains, tunes or reads market data.
"""

from tft_core.evidence.comparison import (
    Comparison,
    SpaResult,
    Verdict,
    choose_path,
    compare,
    superior_ability,
)
from tft_core.evidence.deflation import (
    Deflation,
    deflate,
    deflated_sharpe,
    effective_trials,
    expected_max_sharpe_ann,
    min_track_record_days,
    probabilistic_sharpe,
)
from tft_core.evidence.ledger import EvidenceLedger, LedgerCounts
from tft_core.evidence.overfitting import OverfittingResult, overfitting_probability
from tft_core.evidence.report import (
    RecordEvidence,
    SearchEvidence,
    record_evidence,
    search_evidence,
)

__all__ = [
    "Comparison",
    "Deflation",
    "EvidenceLedger",
    "LedgerCounts",
    "OverfittingResult",
    "RecordEvidence",
    "SearchEvidence",
    "SpaResult",
    "Verdict",
    "choose_path",
    "compare",
    "deflate",
    "deflated_sharpe",
    "effective_trials",
    "expected_max_sharpe_ann",
    "min_track_record_days",
    "overfitting_probability",
    "probabilistic_sharpe",
    "record_evidence",
    "search_evidence",
    "superior_ability",
]
