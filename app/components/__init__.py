"""Components that several tabs or events share: forms, map, grids, charts.

Their JS and CSS is in ``assets/app``.
"""
