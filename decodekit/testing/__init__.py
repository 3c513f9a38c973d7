"""
For plugin authors: a model without weights, and the contracts as executable laws.

    from decodekit.testing import check_logits_processor

    def test_keeps_the_contract():
        check_logits_processor(TopP(0.9))
"""

from decodekit.testing.criterion_laws import check_stopping_criterion
from decodekit.testing.processor_laws import check_logits_processor
from decodekit.testing.table_model import TableModel, Tokens, histories

__all__ = ["TableModel", "Tokens", "check_logits_processor", "check_stopping_criterion", "histories"]
