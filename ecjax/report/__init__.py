"""A finished run as one HTML page that needs nothing else: the answer first, then what it was decided from.

    from ecjax.report import write_report
    write_report("runs/toy-20260101-120000-ab12")

A section of the page is a file of this room; a figure in it is a Vega-Lite chart with its numbers in a table behind it.
"""

from .page import write_report as write_report
